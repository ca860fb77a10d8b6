package telemetry

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"unsafe"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// TestAnswersAreBounded: what devices store must not decide how much memory a question
// takes. The answer to one that is too large says what to narrow.
func TestAnswersAreBounded(t *testing.T) {
	const values, size = 20, 1_000_000
	s := open(t, Options{Durability: "none"})
	text := strings.Repeat("x", size)
	for i := range values {
		publish(t, s, "d", fmt.Sprintf(`{"ts":%d,"values":{"n":%d,"text":"%s"}}`, i*10, i, text))
		publish(t, s, "wide", fmt.Sprintf(`{"ts":1,"values":{"k%d":"%s"}}`, i, text[:900_000/values]))
		publish(t, s, "many", fmt.Sprintf(`{"ts":%d,"values":{"k%d":"%s"}}`, i, i, text))
		if err := s.Attributes(t.Context(), "many", fmt.Appendf(nil, `{"k%d":"%s"}`, i, text)); err != nil {
			t.Fatal(err)
		}
	}
	h := Handler(s)
	for path, want := range map[string]int{
		"d/values/timeseries?keys=text&startTs=0&endTs=999":                              400,
		"d/values/timeseries?keys=text&startTs=0&endTs=999&limit=10":                     200,
		"d/values/timeseries?keys=text&startTs=0&endTs=100":                              200,
		"d/values/timeseries?keys=n&startTs=0&endTs=999":                                 200,
		"d/values/timeseries?keys=text&startTs=0&endTs=200&interval=10&agg=MAX":          400,
		"d/values/timeseries?keys=text&startTs=0&endTs=200&interval=200&agg=MAX":         200,
		"d/values/timeseries?keys=text&startTs=0&endTs=200&interval=10&agg=COUNT":        200,
		"wide/values/timeseries":                                                         200,
		"many/values/timeseries":                                                         400,
		"many/values/timeseries?keys=k1,k2,k3":                                           200,
		"many/keys/timeseries":                                                           200,
		"many/values/attributes":                                                         400,
		"many/values/attributes?keys=k1,k2":                                              200,
		"d/values/timeseries?keys=" + strings.Repeat("k,", 3):                            200,
		"d/values/timeseries?keys=" + numbered(maxKeys+1):                                400,
		"d/values/timeseries?startTs=0&endTs=999&limit=1&keys=" + numbered(maxKeys):      200,
		"d/values/timeseries?startTs=0&endTs=999&limit=200000&keys=" + numbered(maxKeys): 400,
	} {
		status, body := get(t, h, "/api/plugins/telemetry/DEVICE/"+path)
		if status != want {
			t.Errorf("%.80s: status %d, want %d: %.200s", path, status, want, body)
		}
		if status == http.StatusBadRequest && !strings.Contains(body, "ask for fewer keys, a shorter span or a smaller limit") && !strings.Contains(path, numbered(maxKeys)) {
			t.Errorf("%.80s: the answer does not say what to do: %.200s", path, body)
		}
	}
}

// numbered lists n keys.
func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()
}

// TestValuesDoNotKeepTheirMessages: small values of large messages are small in memory.
func TestValuesDoNotKeepTheirMessages(t *testing.T) {
	row := payload.Text(strings.Repeat("x", 100))
	left := budget(1000)
	part, err := left.keep(row)
	if err != nil || part != row || left != 1000-100-valueBytes {
		t.Errorf("value %v, error %v, %d bytes left", part, err, left)
	}
	if unsafe.StringData(part.String()) == unsafe.StringData(row.String()) {
		t.Error("the value is a part of the message")
	}
}
