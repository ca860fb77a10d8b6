package page

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
)

// brokerPath returns the path of a change of a broker.
func brokerPath(path, server string) string {
	return path + "?" + url.Values{"server": {server}}.Encode()
}

func (p *Page) askDrain(r *http.Request) (confirmation, error) {
	server := r.URL.Query().Get("server")
	return confirmation{
		Title: "Take the broker " + server + " out of use?", Button: "Take out of use", Back: "/",
		Text: []string{"It gets no new sessions until it is used again, or until the proxy restarts. If no other broker is left, devices are refused."},
		Choices: []choice{
			{"end", "", "Its sessions go on."},
			{"end", "true", "Its sessions end, spread over some time. Their devices connect again and get another broker."},
		},
		Fields: []field{{"server", server}},
	}, nil
}

func (p *Page) drain(r *http.Request) (result, error) {
	return p.changeBroker(r, admin.BrokerChange{Server: r.PostForm.Get("server"), Drained: true, End: r.PostForm.Get("end") == "true"})
}

func (p *Page) askEnable(r *http.Request) (confirmation, error) {
	server := r.URL.Query().Get("server")
	return confirmation{
		Title: "Use the broker " + server + " again?", Button: "Use again", Mild: true, Back: "/",
		Text: []string{"New sessions go to it again."}, Fields: []field{{"server", server}},
	}, nil
}

func (p *Page) enable(r *http.Request) (result, error) {
	return p.changeBroker(r, admin.BrokerChange{Server: r.PostForm.Get("server")})
}

func (p *Page) changeBroker(r *http.Request, change admin.BrokerChange) (result, error) {
	_, err := p.API.ChangeBroker(r.Context(), change)
	switch {
	case errors.Is(err, admin.ErrNoBroker):
		return result{}, &statusError{http.StatusNotFound, "The proxy has no such broker."}
	case err != nil:
		return result{}, &statusError{http.StatusInternalServerError, "This cannot be done: " + err.Error() + "."}
	}
	return result{next: "/"}, nil
}
