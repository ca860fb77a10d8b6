package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

// BrokerChange is what is done to one broker.
type BrokerChange struct {
	// Server is the broker as the configuration or [BrokerStatus] has it.
	Server string
	// Drained means that the broker takes no new sessions.
	Drained bool
	// End means that the sessions on it end as well, one after the other. It is for Drained alone.
	End bool
}

// ErrNoBroker means that the proxy has no broker of that name.
var ErrNoBroker = errors.New("no such broker")

// drain takes the broker in the body out of use.
func (a *API) drain(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Server string `json:"server"`
		End    bool   `json:"end"`
	}
	if err := decode(w, r, &body); err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	a.changeBroker(w, r, BrokerChange{Server: body.Server, Drained: true, End: body.End})
}

// enable puts the broker in the body back into use.
func (a *API) enable(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Server string `json:"server"`
	}
	if err := decode(w, r, &body); err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	a.changeBroker(w, r, BrokerChange{Server: body.Server})
}

func (a *API) changeBroker(w http.ResponseWriter, r *http.Request, change BrokerChange) {
	status, err := a.ChangeBroker(r.Context(), change)
	switch {
	case errors.Is(err, ErrNoBroker):
		problem.Write(w, http.StatusNotFound, err.Error())
	case err != nil:
		problem.Write(w, http.StatusInternalServerError, err.Error())
	default:
		writeJSON(w, status)
	}
}

// ChangeBroker takes a broker out of use or puts it back. Its error may be ErrNoBroker.
func (a *API) ChangeBroker(ctx context.Context, change BrokerChange) (BrokerStatus, error) {
	status, err := a.Drain(change)
	if err == nil {
		a.Audit.Record(ctx, change.action(), status.Server, fmt.Sprintf("%d sessions are on it", status.Sessions))
	}
	return status, err
}

// action names the change in the audit.
func (c BrokerChange) action() string {
	switch {
	case !c.Drained:
		return "enable broker"
	case c.End:
		return "drain broker and end its sessions"
	}
	return "drain broker"
}
