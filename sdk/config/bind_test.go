package config_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/sdk/config"
)

type pool struct {
	MaxOpen int
	Idle    time.Duration `config:"idle-for"`
}

type wallet struct {
	URL      string `config:",required"`
	Token    config.Secret
	Timeout  time.Duration
	Limit    config.Size
	Backoff  config.Range
	Debug    bool
	Ratio    float64
	Port     uint16
	Tags     []string
	Ports    []int
	Labels   map[string]string
	Pool     pool
	Extra    *pool
	Deadline *time.Duration
	Addr     netip.Addr
	Skipped  string `config:"-"`
	hidden   string
}

func TestBind(t *testing.T) {
	t.Parallel()
	c := mustNew(t, config.FromMap(map[string]string{
		"host": "h", "wallet.url": "http://${host}", "wallet.token": "s", "wallet.timeout": "3s", "wallet.limit": "1MiB",
		"wallet.backoff": "1s..2s", "wallet.debug": "yes", "wallet.ratio": "0.5", "wallet.port": "80",
		"wallet.tags": "a, b", "wallet.ports.0": "1", "wallet.ports.1": "2", "wallet.labels.zone": "eu",
		"wallet.pool.max-open": "4", "wallet.pool.idle-for": "1m", "wallet.deadline": "1h", "wallet.addr": "10.0.0.1",
	}), config.FromEnv("A_", []string{"A_WALLET_POOL_MAX_OPEN=9"}))
	got, err := config.Bind[wallet](c, "wallet")
	if err != nil {
		t.Fatal(err)
	}
	hour := time.Hour
	want := wallet{
		URL: "http://h", Token: "s", Timeout: 3 * time.Second, Limit: config.MiB,
		Backoff: config.Range{From: time.Second, To: 2 * time.Second}, Debug: true, Ratio: 0.5, Port: 80,
		Tags: []string{"a", "b"}, Ports: []int{1, 2}, Labels: map[string]string{"zone": "eu"},
		Pool: pool{MaxOpen: 4, Idle: time.Minute}, Deadline: &hour, Addr: netip.MustParseAddr("10.0.0.1"),
		hidden: "",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestBindReportsEverything(t *testing.T) {
	t.Parallel()
	c := mustNew(t, config.FromMap(map[string]string{
		"wallet.timeot": "3s", "wallet.port": "70000", "wallet.debug": "maybe", "wallet.ratio": "x",
		"wallet.limit": "big", "wallet.pool.max-opn": "1", "wallet.ports": "1,x", "wallet.tags.0": "${gone}",
	}), config.FromEnv("A_", []string{"A_WALLET_PROT=1"}))
	got, err := config.Bind[wallet](c, "wallet")
	wantError(t, err,
		`unknown key wallet.timeot (map) (did you mean "wallet.timeout"?)`,
		`unknown key wallet.pool.max-opn (map) (did you mean "wallet.pool.max-open"?)`,
		`unknown environment variable A_WALLET_PROT (did you mean "A_WALLET_PORT"?)`,
		"wallet.url is required and not set",
		`wallet.port (map): "70000" is not a whole number from 0 that fits uint16`,
		`wallet.debug (map): "maybe" is neither true nor false`,
		`wallet.ratio (map): "x" is not a number such as 0.5`,
		`wallet.limit (map): "big" is not a size`,
		`wallet.ports: "x" is not a whole number that fits int`,
		"no value for ${gone}",
	)
	if !reflect.DeepEqual(got, wallet{}) {
		t.Errorf("a half filled value came with the error: %+v", got)
	}
}

func TestBindRefusesTypes(t *testing.T) {
	t.Parallel()
	c := fromMap(t, map[string]string{"s.f": "1", "s.m.x": "1"})
	_, err := config.Bind[int](c, "s")
	wantError(t, err, "bind section s: int is not a struct")
	_, err = config.Bind[struct {
		F chan int
		M map[int]string
		R string `config:"r,requierd"`
	}](c, "s")
	wantError(t, err, "s.f (map): a field of type chan int cannot be read from configuration",
		"s.m: a map needs string keys, not int", `unknown flag "requierd" in its config tag; only required is known`)
	_, err = config.Bind[struct {
		F string
		M map[string]int
		L []string `config:"l,required"`
	}](fromMap(t, map[string]string{"s.m.x": "y"}), "s")
	wantError(t, err, "s.l is required and not set", `s.m.x: "y" is not a whole number`)
}

func TestKebab(t *testing.T) {
	t.Parallel()
	got, err := config.Bind[struct{ MaxOpenConns, HTTPAddr, V2Mode string }](fromMap(t, map[string]string{
		"s.max-open-conns": "1", "s.http-addr": "2", "s.v2-mode": "3",
	}), "s")
	if err != nil || got.MaxOpenConns+got.HTTPAddr+got.V2Mode != "123" {
		t.Errorf("%+v, %v", got, err)
	}
}

func ExampleBind() {
	c, err := config.New(
		config.FromMap(map[string]string{"wallet.timeout": "${default.timeout:3s}", "wallet.token": "hunter2"}),
		config.FromEnv("BILLPAY_", []string{"BILLPAY_WALLET_URL=https://wallet"}),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	type Wallet struct {
		URL     string `config:"url,required"`
		Timeout time.Duration
		Token   config.Secret
	}
	w, err := config.Bind[Wallet](c, "wallet")
	fmt.Println(w, err)
	// Output: {https://wallet 3s ***} <nil>
}

func ExampleConfig_Expand() {
	c, err := config.New(config.FromMap(map[string]string{"env": "prod"}))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Expand("${env}-${bills.topic:bill-settled}"))
	_, err = c.Expand("${bills.topic} ${evn}")
	fmt.Println(err)
	// Output:
	// prod-bill-settled <nil>
	// no value for ${bills.topic}, ${evn} (did you mean ${env}?)
}

func ExampleConfig_CheckKnown() {
	c, err := config.New(config.FromMap(map[string]string{"sluice.borker": "embedded"}))
	if err != nil {
		fmt.Println(err)
		return
	}
	known := config.Known{Keys: []string{"sluice.broker", "sluice.client-id"}}
	fmt.Println(strings.TrimSpace(c.CheckKnown("sluice", known.Match, known.Keys).Error()))
	// Output: unknown key sluice.borker (map) (did you mean "sluice.broker"?)
}
