package telemetrytest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// openFamily opens a store that knows the devices behind gateways, and returns the store in it.
func (s Suite) openFamily(t *testing.T, retention time.Duration) (f *fixture, inner telemetry.Store) {
	t.Helper()
	f = s.open(t, retention)
	inner = f.Store
	reopen := f.Reopen
	f.Reopen = func() telemetry.Store { return telemetry.WithChildren(reopen()) }
	f.use(telemetry.WithChildren(inner))
	return f, inner
}

// gateway stores a payload that a gateway publishes.
func (f *fixture) gateway(gateway, data string) {
	f.Helper()
	if _, err := f.intake.ChildTelemetry(f.Context(), gateway, []byte(data)); err != nil {
		f.Errorf("publish to %s: %v", gateway, err)
	}
}

// children shows the names of the devices behind a gateway.
func (f *fixture) children(gateway string) string {
	f.Helper()
	var names []string
	for name, err := range f.Store.ChildrenOf(f.Context(), gateway) {
		if err != nil {
			f.Fatal(err)
		}
		names = append(names, name)
	}
	return strings.Join(names, "|")
}

// checkChildren: what belongs to a device behind a gateway meets neither what belongs to the gateway,
// nor that of a device with the same name behind another gateway, nor that of any other device.
func checkChildren(t *testing.T, s Suite) {
	f, inner := s.openFamily(t, 0)
	for i, device := range []string{"g/a", "a", "/g/1", "/h/1"} { // as older versions may have stored
		if err := inner.Append(t.Context(), device, []payload.Message{message(1, payload.Field{Key: "old", Value: payload.Long(int64(i))})}); err != nil {
			t.Fatal(err)
		}
	}
	f.reopen() // so that the store has found all newest values
	f.publish("g", `{"ts":1,"values":{"k":0}}`)
	f.gateway("g", `{"a":[{"ts":1,"values":{"k":1}}],"b c":{"ts":1,"values":{"k":2}},"none":[]}`)
	f.gateway("h", `{"a":[{"ts":1,"values":{"k":3}}]}`)
	f.gateway("g", `{"a":[{"ts":2,"values":{"k":4}},{"ts":2,"values":{"l":5}}]}`)
	if _, err := f.intake.ChildAttributes(t.Context(), "g", []byte(`{"a":{"serial":"A1"},"d":{"serial":"D1"}}`)); err != nil {
		t.Error(err)
	}
	f.setIn("g/a", telemetry.SharedScope, 1, "interval", 30)
	f.setIn("g/b c", telemetry.SharedScope, 1, "gone", 1)
	for _, device := range []string{"g/b c", "g/nobody"} {
		if err := f.Store.DeleteAttributes(t.Context(), device, telemetry.SharedScope, []string{"gone"}); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		f.check("the gateway", f.latest("g"), `k=0@1`)
		f.check("a behind g", f.latest("g/a"), `k=4@2 l=5@2`)
		f.check("b c behind g", f.latest("g/b c"), `k=2@1`)
		f.check("a behind h", f.latest("h/a"), `k=3@1`)
		f.check("a key", f.latest("g/a", "l"), `l=5@2`)
		f.check("messages", f.points(telemetry.Query{Device: "g/a", Keys: []string{"k", "l"}, End: 9}), `4@2 1@1 5@2`)
		f.check("a that is a device of its own", f.latest("a"), `old=1@1`)
		f.check("nobody", f.latest("g/nobody")+f.attributes("g/nobody")+fmt.Sprint(f.messages("g/nobody")), `0`)
		if got := f.attributes("g/a"); !strings.HasPrefix(got, `serial="A1"@`) {
			t.Errorf("client attributes of a: %s", got)
		}
		f.check("attributes of the gateway", f.attributes("g")+f.scoped("g", telemetry.SharedScope), ``)
		f.check("shared attributes", f.scoped("g/a", telemetry.SharedScope), `interval=30@1`)
		f.check("deleted ones", f.scoped("g/b c", telemetry.SharedScope), ``)
		f.check("names", f.children("g"), `a|b c|d|none`)
		f.check("names behind h", f.children("h"), `a`)
		f.check("names behind nothing", f.children("a"), ``)
		f.reopen()
	}
	status, body := f.get("g%2Fb%20c/values/timeseries?keys=k")
	f.check("over HTTP", fmt.Sprint(status, " ", body), `200 {"k":[{"ts":1,"value":"2"}]}`)
}

// checkChildrenAreWhole: what a gateway publishes in one message is stored all or none.
func checkChildrenAreWhole(t *testing.T, s Suite) {
	f, _ := s.openFamily(t, 0)
	before := f.Store.Stats()
	f.gateway("g", `{"a":[{"ts":1,"values":{"k":1}}],"full":[{"ts":1,"values":{"k":1}}]}`)
	parts := []telemetry.Part{
		{Device: "g/a", Messages: []payload.Message{message(2, payload.Field{Key: "k", Value: payload.Long(2)})}},
		{Device: "g/full", Messages: []payload.Message{message(2, numbered(0, telemetry.MaxKeys+1)...)}},
		{Device: "g/b", Messages: []payload.Message{message(2, payload.Field{Key: "k", Value: payload.Long(2)})}},
	}
	f.refused("too many keys", f.Store.AppendAll(t.Context(), parts))
	parts = []telemetry.Part{
		{Device: "g/a", Attributes: numbered(0, 1), Updated: 2},
		{Device: "g/full", Attributes: numbered(0, telemetry.MaxAttributes+1), Updated: 2},
		{Device: "g/b", Attributes: numbered(0, 1), Updated: 2},
	}
	f.refused("too many attributes", f.Store.AppendAll(t.Context(), parts))
	text := payload.Text(strings.Repeat("x", telemetry.MaxPayload-100))
	merged := func(device, key string, ts int64) telemetry.Part {
		return telemetry.Part{Device: device, Messages: []payload.Message{message(ts, payload.Field{Key: key, Value: text})}}
	}
	if err := f.Store.AppendAll(t.Context(), []telemetry.Part{merged("g/full", "long", 3)}); err != nil {
		t.Fatal(err)
	}
	f.refused("too much at one time", f.Store.AppendAll(t.Context(), []telemetry.Part{merged("g/a", "k", 3), merged("g/full", "more", 3), merged("g/b", "k", 3)}))
	for range 2 {
		for _, device := range []string{"g/a", "g/b", "g/full"} {
			f.check("attributes of "+device, f.attributes(device), ``)
		}
		f.check("a", f.latest("g/a"), `k=1@1`)
		f.check("b", f.latest("g/b"), ``)
		f.check("messages", fmt.Sprint(f.messages("g/a"), f.messages("g/b"), f.messages("g/full")), `1 0 2`)
		f.check("what was there", f.latest("g/full", "k"), `k=1@1`)
		if n := f.Store.Stats().Messages - before.Messages; before.Messages == 0 && n != 3 && n != 0 {
			t.Errorf("%d messages are counted", n)
		}
		f.reopen()
	}
	f.gateway("g", `{}`)
	for _, bad := range []string{`[]`, `{"a":1}`, `{"a":[1]}`, `{"a/b":[]}`, `{"":[]}`, `{"a":[{"ts":4,"values":{"k":1}}],"..":[{"k":1}]}`, `{"a":[{"ts":4,"values":{"k":1}}],"b#":[{"k":1}]}`} {
		_, err := f.intake.ChildTelemetry(t.Context(), "g", []byte(bad))
		f.refused(bad, err)
	}
	f.check("after bad ones", f.latest("g/a"), `k=1@1`)
}

// checkManyChildren: their number is bounded, and many that come at once get different numbers.
func checkManyChildren(t *testing.T, s Suite) {
	f, _ := s.openFamily(t, 0)
	var gateways sync.WaitGroup
	for i := range 8 {
		gateways.Go(func() {
			for k := range 10 {
				f.gateway("g", fmt.Sprintf(`{"%d":[{"ts":1,"values":{"k":%d}}],"all":[{"ts":%d,"values":{"k":1}}]}`, (i+k)%10, (i+k)%10, i))
			}
		})
	}
	gateways.Wait()
	for i := range 10 {
		f.check("child", f.latest(fmt.Sprintf("g/%d", i)), fmt.Sprintf(`k=%d@1`, i))
	}
	f.check("names", f.children("g"), `0|1|2|3|4|5|6|7|8|9|all`)
	var names []string
	for i := range telemetry.MaxChildren {
		names = append(names, fmt.Sprint("full ", i))
	}
	if _, err := f.Store.ChildNumbers(t.Context(), "full", names, true); err != nil {
		t.Fatal(err)
	}
	_, err := f.intake.ChildTelemetry(t.Context(), "full", []byte(`{"full 1":[{"k":1}],"more":[{"k":1}]}`))
	f.refused("one more", err)
	f.check("after it", f.latest("full/full 1")+f.latest("full/more"), ``)
	f.gateway("full", `{"full 9999":[{"ts":1,"values":{"k":1}}]}`)
	f.check("the last one", f.latest("full/full 9999"), `k=1@1`)
	f.gateway("other", `{"more":[{"ts":1,"values":{"k":1}}]}`)
	numbers, err := f.Store.ChildNumbers(t.Context(), "full", []string{"nobody", "full 0"}, false)
	if err != nil || numbers[0] != 0 || numbers[1] == 0 {
		t.Errorf("numbers %v, error %v", numbers, err)
	}
}

// checkChildKeys: all devices behind a gateway have one account of keys, so that a gateway cannot have
// more by inventing devices.
func checkChildKeys(t *testing.T, s Suite) {
	f, _ := s.openFamily(t, 0)
	const most = telemetry.MaxKeys
	publish := func(ts int64, device string, from, to int) error {
		return f.Store.AppendAll(t.Context(), []telemetry.Part{{Device: device, Messages: []payload.Message{message(ts, numbered(from, to)...)}}})
	}
	accepted := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	full := func(what string, err error) {
		t.Helper()
		if bad, ok := errors.AsType[*telemetry.PayloadError](err); !ok || !bad.Quota {
			t.Errorf("%s: error %v", what, err)
		}
	}
	accepted("the first device", publish(1, "g/a", 0, most-2))
	accepted("another one", publish(1, "g/b", 0, 1))
	full("two more", publish(2, "g/b", 1, 3))
	accepted("the last one", publish(3, "g/c", 0, 1))
	for range 2 {
		full("one more", publish(4, "g/c", 1, 2))
		full("of a new device", publish(4, "g/d", 0, 1))
		accepted("known ones", publish(5, "g/a", 0, 100))
		accepted("the gateway itself", publish(5, "g", 0, 100))
		accepted("behind another gateway", publish(5, "h/a", 0, 100))
		f.reopen()
	}
	f.check("c", f.latest("g/c"), `0=0@3`)
	f.check("d", f.latest("g/d"), ``)
}

// checkChildRetention: what belongs to devices behind gateways is deleted as that of all others.
func checkChildRetention(t *testing.T, s Suite) {
	const retention = 10 * time.Hour
	f, _ := s.openFamily(t, retention)
	f.gateway("g", `{"a":[{"k":1},{"k":2}],"b":[{"k":1}]}`)
	f.Advance(retention / 2)
	young := f.Now().UnixMilli()
	f.gateway("g", `{"b":[{"k":2}]}`)
	f.Advance(retention/2 + time.Hour)
	f.check("what was old", f.latest("g/a")+fmt.Sprint(f.messages("g/a"), f.messages("g/b")), `0 1`)
	f.check("what is young", f.latest("g/b"), fmt.Sprintf(`k=2@%d`, young))
	f.check("names", f.children("g"), `a|b`)
}

// checkChildRequests: a gateway asks for attributes of the devices behind it.
func checkChildRequests(t *testing.T, s Suite) {
	f, _ := s.openFamily(t, 0)
	if _, err := f.intake.ChildAttributes(t.Context(), "g", []byte(`{"A \"1\"":{"serial":"A17","model":3,"nul":null}}`)); err != nil {
		t.Fatal(err)
	}
	f.setIn(`g/A "1"`, telemetry.SharedScope, 1, "interval", 30)
	f.setIn(`g/A "1"`, telemetry.SharedScope, 1, "serial", 5)
	requests := &telemetry.Requests{Store: f.Store}
	const name = `"device":"A \"1\""`
	for request, want := range map[string]string{
		`{"id":1,` + name + `,"client":true,"key":"serial"}`:             `{"id":1,` + name + `,"value":"A17"}`,
		`{"id":2,` + name + `,"client":false,"key":"serial"}`:            `{"id":2,` + name + `,"value":5}`,
		`{"id":3,` + name + `,"client":true,"keys":["serial"]}`:          `{"id":3,` + name + `,"value":"A17"}`,
		`{"id":4,` + name + `,"client":true,"keys":["serial","x"]}`:      `{"id":4,` + name + `,"values":{"serial":"A17"}}`,
		`{"id":5,` + name + `,"client":true,"keys":["serial","model"]}`:  `{"id":5,` + name + `,"values":{"model":3,"serial":"A17"}}`,
		`{"id":6,` + name + `,"keys":["interval","model"],"other":[{}]}`: `{"id":6,` + name + `,"values":{"interval":30}}`,
		`{"id":7,` + name + `,"client":true,"key":"x"}`:                  `{"id":7,` + name + `}`,
		`{"id":8,"device":"nobody","client":true,"keys":["a","b"]}`:      `{"id":8,"device":"nobody"}`,
	} {
		answer, err := requests.ChildAttributes(t.Context(), "g", []byte(request))
		if err != nil || !sameJSON(t, string(answer), want) {
			t.Errorf("%s:\n got %s, error %v\nwant %s", request, answer, err, want)
		}
	}
	if answer, err := requests.ChildAttributes(t.Context(), "h", []byte(`{"id":1,`+name+`,"client":true,"key":"serial"}`)); err != nil || string(answer) != `{"id":1,`+name+`}` {
		t.Errorf("another gateway gets %s, error %v", answer, err)
	}
	for _, bad := range []string{
		``, `[]`, `{}`, `{"id":1,"device":"a"}`, `{"id":1,"key":"k"}`, `{"id":"x","device":"a","key":"k"}`, `{"id":1,"device":5,"key":"k"}`, `{"id":1,"device":"a","key":5}`,
		`{"id":1,"device":"a/b","key":"k"}`, `{"id":1,"device":"..","key":"k"}`, `{"id":1,"device":"a","keys":[]}`, `{"id":1,"device":"a","keys":[5]}`, `{"id":1,"device":"a","client":"yes","key":"k"}`,
	} {
		_, err := requests.ChildAttributes(t.Context(), "g", []byte(bad))
		f.refused(bad, err)
	}
	if f.children("h") != "" {
		t.Error("a request makes a device known")
	}
}

// checkChildDeletion: the telemetry of a device behind a gateway is deleted, and that of others is
// not.
func checkChildDeletion(t *testing.T, s Suite) {
	f, _ := s.openFamily(t, 0)
	f.gateway("g", `{"a":[{"ts":1,"values":{"k":1}},{"ts":2,"values":{"k":2}}],"b":[{"ts":2,"values":{"k":3}}]}`)
	for _, device := range []string{"g%2Fa", "g%2Funknown"} {
		if status, log := f.remove(device, "keys=k&startTs=2&endTs=3&rewriteLatestIfDeleted=true"); status != http.StatusOK {
			t.Errorf("%s: status %d, recorded %s", device, status, log)
		}
	}
	f.check("the device", f.latest("g/a")+" "+f.all("g/a", "k"), `k=1@1 1@1`)
	f.check("another device", f.latest("g/b"), `k=3@2`)
}
