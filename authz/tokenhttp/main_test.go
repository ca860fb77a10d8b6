package tokenhttp

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secretToken = "Secret-token-of-pump-7"

func pump() authz.Request {
	return authz.Request{Token: authz.NewToken(secretToken), ClientID: "pump-7", Username: "pump"}
}

// serve starts a service that is closed with the test.
func serve(tb testing.TB, handler http.HandlerFunc) *httptest.Server {
	tb.Helper()
	server := httptest.NewServer(handler)
	tb.Cleanup(server.Close)
	return server
}

// sourceOf returns the Source of o, which is closed with the test.
func sourceOf(tb testing.TB, o Options) *Source {
	tb.Helper()
	s, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// reply is an answer of a service in a test.
type reply struct {
	status      int
	contentType string
	body        string
	header      http.Header
}

func (a reply) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Content-Type"] = nil
	if a.contentType != "" {
		w.Header().Set("Content-Type", a.contentType)
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	_, _ = w.Write([]byte(a.body))
}

// asked returns what the Source of o decides about r if its service answers with a.
func asked(tb testing.TB, a reply, o Options, r authz.Request) (*authz.Grant, error) {
	tb.Helper()
	server := serve(tb, a.ServeHTTP)
	o.URL = server.URL + o.URL
	return sourceOf(tb, o).Authorize(tb.Context(), r)
}

// outcomeOf returns the kind of an answer, with the reason of a denial.
func outcomeOf(g *authz.Grant, err error) string {
	denial, denied := errors.AsType[*authz.Denial](err)
	switch {
	case err == nil && g != nil:
		return "allow"
	case denied && g == nil:
		return "deny " + string(denial.Reason)
	case errors.Is(err, authz.ErrBusy) && g == nil:
		return "busy"
	case errors.Is(err, authz.ErrUnavailable) && g == nil:
		return "error"
	}
	return "malformed"
}

func okJSON(body string) reply {
	return reply{status: 200, contentType: "application/json", body: body}
}
