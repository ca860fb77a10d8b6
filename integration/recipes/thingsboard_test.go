//go:build integration

package recipes

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestThingsBoardRecipe: an access token that ThingsBoard's device API accepts is
// forwarded to its MQTT transport as the user name. Others are refused.
func TestThingsBoardRecipe(t *testing.T) {
	t.Parallel()
	const good = "A1B2C3D4E5F6G7H8I9J0"
	var asked atomic.Int32
	board := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method != http.MethodGet || r.URL.Path != "/api/v1/"+good+"/attributes" || r.URL.RawQuery != "clientKeys=x" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}"))
	}))
	defer board.Close()
	r, s := copyRecipe(t, "thingsboard"), harness.StartSink(t)
	r.replace("proxy.yaml", "http://127.0.0.1:8080", board.URL)
	p := r.proxy("tcp://" + s.Addr().String())
	p.AddSecret(good)
	p.AddSecret("Z9Z9Z9Z9Z9Z9Z9Z9Z9Z9")
	r.check(p)
	p.Start()
	for range 3 {
		d := p.Connect(t, 4, "thermometer", good)
		if err := d.Publish("v1/devices/me/telemetry", `{"temperature":25}`); err != nil {
			t.Fatal(err)
		}
	}
	if _, ack := p.Present(t, 4, "stranger", "Z9Z9Z9Z9Z9Z9Z9Z9Z9Z9"); ack.Code != packets.RefusedNotAuthorized {
		t.Errorf("a wrong token gets %v", ack.Code)
	}
	_, connects := s.Reached()
	if len(connects) != 3 || asked.Load() != 2 {
		t.Errorf("%d CONNECTs after %d questions, want 3 after 2", len(connects), asked.Load())
	}
	for _, c := range connects {
		if c.Username != good || c.HasPassword || !strings.HasSuffix(c.ClientID, ":thermometer") {
			t.Error("the broker does not get only the access token, as the user name")
		}
	}
}
