package telemetrytest

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// checkAttributeRequests: a device gets the attributes that it asks for, and only its own.
func checkAttributeRequests(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.setAttributes("d", 1, `{"a":1,"b":1.0,"c":"x\"y","007":{"n":[1.50,null]}}`)
	f.setAttributes("e", 1, `{"a":2}`)
	requests := &telemetry.Requests{Store: f.Store}
	for request, want := range map[string]string{
		`{"clientKeys": "a"}`:                           `{"client":{"a":1}}`,
		`{"clientKeys": "b,c", "sharedKeys": "a"}`:      `{"client":{"b":1.0,"c":"x\"y"}}`,
		`{clientKeys: "007"}`:                           `{"client":{"007":{"n":[1.50,null]}}}`,
		`{"clientKeys": ["c", "nope"]}`:                 `{"client":{"c":"x\"y"}}`,
		`{"clientKeys": "nope"}`:                        `{}`,
		`{"sharedKeys": "a"}`:                           `{}`,
		`{"clientKeys": ""}`:                            `{"client":{"a":1,"b":1.0,"c":"x\"y","007":{"n":[1.50,null]}}}`,
		`{}`:                                            `{"client":{"a":1,"b":1.0,"c":"x\"y","007":{"n":[1.50,null]}}}`,
		`{"clientKeys":null,"sharedKeys":"a","x":true}`: `{}`,
	} {
		answer, err := requests.Attributes(t.Context(), "d", []byte(request))
		if err != nil || !sameJSON(t, string(answer), want) {
			t.Errorf("%s: answer %s, error %v, want %s", request, answer, err, want)
		}
	}
	for _, request := range []string{``, `[]`, `{"clientKeys":{}}`, `{"clientKeys":[1]}`, `{"clientKeys":"` + strings.Repeat("x", 64<<10) + `"}`, `{"sharedKeys":"` + manyKeys(telemetry.MaxAttributes+1) + `"}`} {
		_, err := requests.Attributes(t.Context(), "d", []byte(request))
		f.refused(request[:min(40, len(request))], err)
	}
	half := []payload.Field{{Key: "h", Value: payload.Text(strings.Repeat("x", telemetry.MaxPayload*6/10))}, {Key: "i", Value: payload.Text(strings.Repeat("x", telemetry.MaxPayload*6/10))}}
	if err := f.Store.SetAttributes(t.Context(), "large", telemetry.ClientScope, 1, half); err != nil {
		t.Fatal(err)
	}
	_, err := requests.Attributes(t.Context(), "large", []byte(`{}`))
	f.refused("an answer that would be too long", err)
	if answer, err := requests.Attributes(t.Context(), "large", []byte(`{"clientKeys":"h"}`)); err != nil || len(answer) < telemetry.MaxPayload/2 {
		t.Errorf("after it: %d bytes, error %v", len(answer), err)
	}
}

// manyKeys returns a list of n keys.
func manyKeys(n int) string {
	var keys []string
	for _, field := range numbered(0, n) {
		keys = append(keys, field.Key)
	}
	return strings.Join(keys, ",")
}

// sameJSON compares texts, in which members may be in any order and numbers must be written alike.
func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var values [2]any
	for i, text := range []string{a, b} {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&values[i]); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}
