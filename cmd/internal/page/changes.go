package page

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// maxForm is the size of the largest form, in bytes.
const maxForm = 64 << 10

// change is something that an operator can do. A GET of its path asks for confirmation, a POST
// does it.
type change struct {
	path string
	// ask returns what the confirmation shows.
	ask func(r *http.Request) (confirmation, error)
	// do makes the change.
	do func(r *http.Request) (result, error)
}

// result is what a browser gets after a change: a redirect to the path next or, if that is empty,
// data in a template.
type result struct {
	next            string
	template, title string
	data            any
}

// confirmation is the content of a page that asks for confirmation.
type confirmation struct {
	Title   string
	Text    []string // paragraphs
	Fields  []field  // hidden
	Choices []choice
	Inputs  []input
	Button  string
	Mild    bool   // nothing is lost by the change
	Back    string // where those go who change their minds
}

// input is a field of a form, a choice if it has options.
type input struct {
	Name, Label, Value, Note string
	Required                 bool
	Options                  []choice
}

// field is a hidden field of a form.
type field struct{ Name, Value string }

// choice is one of several ways to make the change, of which the first is chosen at first.
type choice struct{ Name, Value, Text string }

// changes returns the routes of all changes.
func (p *Page) changes() (all []admin.Route) {
	changes := []change{
		{"/sessions/end", p.askEnd, p.end},
		{"/tokens/withdraw", p.askWithdraw, p.withdraw},
		{"/brokers/drain", p.askDrain, p.drain},
		{"/brokers/enable", p.askEnable, p.enable},
	}
	if p.API.Tokens != nil {
		changes = append(changes, p.tokenChanges()...)
	}
	for _, c := range changes {
		all = append(all,
			admin.Route{Pattern: "GET " + c.path, Role: admin.Operate, Handler: p.confirm(c)},
			admin.Route{Pattern: "POST " + c.path, Role: admin.Operate, Handler: p.make(c)})
	}
	return all
}

// confirm asks for confirmation.
func (p *Page) confirm(c change) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ask, err := c.ask(r)
		if err != nil {
			p.fail(w, r, err)
			return
		}
		s := p.layout(r, ask.Title)
		s.Data = ask
		p.write(w, http.StatusOK, "confirm", s)
	})
}

// make makes a change.
func (p *Page) make(c change) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			p.fail(w, r, &statusError{http.StatusBadRequest, "The form cannot be read, or is too large."})
			return
		}
		result, err := c.do(r)
		switch {
		case err != nil:
			p.fail(w, r, err)
		case result.next != "":
			http.Redirect(w, r, result.next, http.StatusSeeOther)
		default:
			s := p.layout(r, result.title)
			s.Data = result.data
			p.write(w, http.StatusOK, result.template, s)
		}
	})
}

// recordedChanges returns the last changes, those through the API and by signals included.
func (p *Page) recordedChanges(*request) (any, error) { return p.API.Audit.Latest(shownChanges), nil }

// shownChanges is how many changes are listed, which is all that are kept.
const shownChanges = 1000

// devicePath returns the path of the page of a device.
func devicePath(subject string) string {
	return "/device?" + url.Values{"subject": {subject}}.Encode()
}

// session returns the live session with that number.
func (p *Page) session(id string) (*proxy.Client, error) {
	n, err := strconv.ParseUint(id, 10, 64)
	if err == nil {
		for c := range p.API.Sessions() {
			if c.ID == n {
				return c, nil
			}
		}
	}
	return nil, &statusError{http.StatusNotFound, "This session has ended already."}
}

func (p *Page) askEnd(r *http.Request) (confirmation, error) {
	form := r.URL.Query()
	if subject := form.Get("subject"); subject != "" {
		return confirmation{
			Title: "End all sessions of " + subject + "?",
			Text: []string{
				"All connections of the device are closed, here and at the other proxies that share the bus.",
				"The device may connect again at once: its token stays valid. To keep it out, withdraw its token.",
			},
			Fields: []field{{"subject", subject}}, Button: "End the sessions", Back: devicePath(subject),
		}, nil
	}
	c, err := p.session(form.Get("id"))
	if err != nil {
		return confirmation{}, err
	}
	return confirmation{
		Title: "End the session of " + c.Subject() + "?",
		Text: []string{
			"The connection with the client id " + strconv.Quote(c.ClientID) + " from " + c.Addr.String() + " is closed, and its will is published.",
			"The device may connect again at once: its token stays valid. To keep it out, withdraw its token.",
		},
		Fields: []field{{"id", form.Get("id")}}, Button: "End the session", Back: devicePath(c.Subject()),
	}, nil
}

func (p *Page) end(r *http.Request) (result, error) {
	if subject := r.PostForm.Get("subject"); subject != "" {
		p.API.EndSessions(r.Context(), subject)
		return result{next: devicePath(subject)}, nil
	}
	c, err := p.session(r.PostForm.Get("id"))
	if err != nil {
		return result{}, err
	}
	p.API.EndSession(r.Context(), c.ID)
	return result{next: devicePath(c.Subject())}, nil
}

func (p *Page) askWithdraw(r *http.Request) (confirmation, error) {
	form := r.URL.Query()
	id, subject := form.Get("token_id"), form.Get("subject")
	ask := confirmation{
		Title: "Withdraw the token " + id + "?", Button: "Withdraw", Back: "/devices",
		Text: []string{"The sessions that use it end at once, here and at the other proxies that share the bus, and their wills are not published."},
		Choices: []choice{
			{"mode", "deny", "Refuse it for a day, or until it expires, whatever the token source says. Remove it from its source before that."},
			{"mode", "evict", "Forget the answer and ask the token source again. The device stays out only if its token has been removed there."},
		},
		Fields: []field{{"subject", subject}},
	}
	switch {
	case id != "":
		ask.Fields = append(ask.Fields, field{"token_id", id})
	case subject != "":
		ask.Title = "Withdraw all tokens of " + subject + "?"
	default:
		return confirmation{}, &statusError{http.StatusBadRequest, "Name the token or the device."}
	}
	if subject != "" {
		ask.Back = devicePath(subject)
	}
	return ask, nil
}

func (p *Page) withdraw(r *http.Request) (result, error) {
	id, subject, mode := r.PostForm.Get("token_id"), r.PostForm.Get("subject"), r.PostForm.Get("mode")
	w := admin.Withdrawal{Revocation: authz.Revocation{TokenID: id}, Deny: mode == "deny"}
	if id == "" {
		w.Revocation = authz.Revocation{Subject: subject}
	}
	if id == "" && subject == "" || mode != "deny" && mode != "evict" {
		return result{}, &statusError{http.StatusBadRequest, "Name the token or the device, and how to withdraw it."}
	}
	if _, _, err := p.API.Revoke(r.Context(), w); err != nil {
		return result{}, &statusError{http.StatusInternalServerError, err.Error()}
	}
	if subject == "" {
		return result{next: "/devices"}, nil
	}
	return result{next: devicePath(subject)}, nil
}
