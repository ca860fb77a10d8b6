package admin

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

func (a *API) listTokens(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	q := TokenQuery{Source: values.Get("source"), Match: values.Get("match"), State: values.Get("state")}
	err := checkParameters(values, "source", "match", "state", "first", "limit")
	if err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	if q.Limit, err = limitOf(values); err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	if text := values.Get("first"); text != "" {
		if q.First, err = strconv.Atoi(text); err != nil || q.First < 0 {
			problem.Write(w, http.StatusBadRequest, "first must be the number of tokens that are left out, 0 or more")
			return
		}
	}
	if q.State != "" && !slices.Contains(tokenfile.States(), q.State) {
		problem.Write(w, http.StatusBadRequest, "state is one of "+strings.Join(tokenfile.States(), ", "))
		return
	}
	list, err := a.ListTokens(r.Context(), q)
	if err != nil {
		tokenProblem(w, err)
		return
	}
	writeJSON(w, list)
}

// tokenRequest is the body of the changes of tokens.
type tokenRequest struct {
	Source    string     `json:"source"`
	Subject   string     `json:"subject"`    // create, rotate
	Expires   *time.Time `json:"expire_at"`  // create, extend; none means never
	NotBefore *time.Time `json:"not_before"` // create
	ClientIDs []string   `json:"clientid"`   // create
	Addrs     []string   `json:"cidr"`       // create
	Role      string     `json:"role"`       // create; none means device
	Gateway   bool       `json:"gateway"`    // create
	Comment   string     `json:"comment"`    // create
	Overlap   string     `json:"overlap"`    // rotate, such as 24h
	Names     []string   `json:"names"`      // disable, enable, revoke, extend: ids and subjects
}

// newToken is the answer that has a new token. It is the only place where the token is shown.
type newToken struct {
	ID      string     `json:"id"`
	Subject string     `json:"subject"`
	Token   string     `json:"token"`
	Expires *time.Time `json:"expire_at,omitempty"`
}

// timeOf returns the time that t points to, or the zero time.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func (a *API) createToken(w http.ResponseWriter, r *http.Request) {
	var body tokenRequest
	if err := decode(w, r, &body); err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error()+"; write times like 2027-01-31T00:00:00Z (RFC 3339)")
		return
	}
	if body.Names != nil || body.Overlap != "" {
		problem.Write(w, http.StatusBadRequest, "the body may only have the fields source, subject, expire_at, not_before, clientid, cidr, role, gateway and comment")
		return
	}
	role, err := authz.ParseRole(cmp.Or(body.Role, authz.RoleDevice.String()))
	if err != nil {
		problem.Write(w, http.StatusBadRequest, "role: "+err.Error())
		return
	}
	made, err := a.CreateToken(r.Context(), body.Source, tokenfile.CreateOptions{
		Name: body.Subject, Expires: timeOf(body.Expires), NotBefore: timeOf(body.NotBefore),
		ClientIDs: body.ClientIDs, Addrs: body.Addrs, Role: role, Gateway: body.Gateway, Comment: body.Comment,
	})
	writeNewToken(w, made, err)
}

func (a *API) rotateToken(w http.ResponseWriter, r *http.Request) {
	var body tokenRequest
	if err := decode(w, r, &body); err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	overlap, err := ParseOverlap(body.Overlap)
	if err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	made, err := a.RotateToken(r.Context(), body.Source, body.Subject, overlap)
	writeNewToken(w, made, err)
}

// ParseOverlap returns how long the old tokens of a device stay valid. Empty means not at all.
func ParseOverlap(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	overlap, err := time.ParseDuration(text)
	if err != nil || overlap < 0 {
		return 0, errors.New("overlap must be a duration such as 24h")
	}
	return overlap, nil
}

func (a *API) changeTokens(w http.ResponseWriter, r *http.Request) {
	change := TokenChange(r.PathValue("change"))
	if !slices.Contains([]TokenChange{DisableToken, EnableToken, RevokeToken, ExtendToken}, change) {
		nothing(w, r)
		return
	}
	var body tokenRequest
	if err := decode(w, r, &body); err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	if len(body.Names) == 0 || len(body.Names) > maxNames {
		problem.Write(w, http.StatusBadRequest, fmt.Sprintf("names must be a list of 1 to %d ids of tokens or subjects of devices", maxNames))
		return
	}
	ids, err := a.ChangeTokens(r.Context(), body.Source, change, timeOf(body.Expires), body.Names...)
	if err != nil {
		tokenProblem(w, err)
		return
	}
	writeJSON(w, map[string][]string{"ids": ids})
}

// maxNames is how many names a change may have, so that the record of changes has room for others.
const maxNames = 100

func writeNewToken(w http.ResponseWriter, made tokenfile.Created, err error) {
	if err != nil {
		tokenProblem(w, err)
		return
	}
	writeJSON(w, newToken{ID: made.ID, Subject: made.Name, Token: made.Token.Reveal(), Expires: timeOrNone(made.Expires)})
}

// tokenProblem answers with an error of a function for tokens.
func tokenProblem(w http.ResponseWriter, err error) {
	status := http.StatusUnprocessableEntity
	switch {
	case errors.Is(err, ErrNoStore), errors.Is(err, tokenfile.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, ErrTooMany):
		status = http.StatusServiceUnavailable
	}
	problem.Write(w, status, err.Error())
}
