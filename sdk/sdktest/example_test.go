package sdktest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/sdktest"
)

func newGreeter() listener.Func[string] {
	return func(_ context.Context, m *sdk.Message[string]) error {
		fmt.Println("hello,", m.Payload)
		return nil
	}
}

func TestGreeter(t *testing.T) {
	t.Parallel()
	kit := sdktest.New(t, listener.Provide[listener.Func[string]](newGreeter,
		listener.Name("greeter"), listener.Topic("names"), listener.Group("greeters")))
	kit.Send("names", "Ada", sdk.ContentType("application/json"))
	if got := kit.Await("greeter", 1); got[0].Attempt != 1 {
		t.Errorf("attempt %d", got[0].Attempt)
	}
}
