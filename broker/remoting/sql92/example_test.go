package sql92_test

import (
	"fmt"

	"github.com/sluicemq/sluice/broker/remoting/sql92"
)

func Example() {
	e, err := sql92.Parse("color in ('red', 'green') and size>5 -- large ones")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e)
	for _, message := range []map[string]string{
		{"color": "red", "size": "9"},
		{"color": "red", "size": "4"},
		{"color": "red"},
	} {
		fmt.Println(e.Match(func(name string) (string, bool) {
			v, ok := message[name]
			return v, ok
		}))
	}
	// Output:
	// color IN ('red', 'green') AND size > 5
	// true
	// false
	// false
}

func ExampleSyntaxError() {
	_, err := sql92.Parse("name LIKE 'a%'")
	fmt.Println(err)
	// Output:
	// sql92 expression at byte 5 ("LIKE 'a%'"): unknown operator; accepted: CONTAINS 'text', STARTSWITH 'text', ENDSWITH 'text'
}
