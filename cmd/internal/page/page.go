// Package page serves the page for operators at / of the admin side. It shows what happens now, who
// is connected, and who is refused and why. The server renders it, so that it works without
// scripts. Where there are scripts, the parts that change are kept up to date.
//
//	p := page.New(page.Options{API: api, History: h})
//	go p.Run(ctx)
//	server := admin.NewServer(admin.Options{Page: p.Routes(), ...})
//
// # Parts
//
// Each page is a view: a path, a template in templates/ and a function that returns what the
// template shows. The block "live" of a template is what changes. A browser subscribes to it below
// /live/, and gets it as server-sent events whenever it has changed. All browsers that look at the
// same view share one goroutine that renders it once, see live.go.
//
// A change, such as ending a session, has a page of its own that says what will happen and asks
// for confirmation, so that it works without scripts. It is made by a POST of that page.
//
// Every name that a device or an operator has chosen may be hostile: package html/template escapes
// it by its context, package chart escapes what is drawn, and the Content-Security-Policy of the
// admin side allows no script and no style within the page.
package page

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page/history"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
)

// Options are what the page shows. The functions may be called from many goroutines.
type Options struct {
	// API are the functions of the admin side. It must be set.
	API *admin.API
	// History has the graphs of the overview. It must be set.
	History *history.History
	// Telemetry is what the bundled broker has stored, nil with other brokers.
	Telemetry Telemetry
	// Listeners returns where devices connect, for the commands that are shown with a new token.
	Listeners func() []Listener
	// Panicked reports that the goroutine of a live view has panicked. It must be set.
	Panicked func(*task.Panic)
}

// Page serves the page.
type Page struct {
	Options
	templates templates
	live      hub
	views     []view
	graphs    chan struct{} // has as many elements as graphs of telemetry are being drawn
}

// view is one page.
type view struct {
	path     string // the pattern GET path
	title    string
	template string
	// role is the role that the view needs; the zero value is Read.
	role admin.Role
	// live is how often the part that changes is rendered while a browser shows it; 0 is never.
	live time.Duration
	data func(*request) (any, error)
}

// request is a request for a view.
type request struct {
	context.Context
	query url.Values
	// operate reports whether the requester may change something.
	operate bool
	// live reports whether only the part that changes is rendered.
	live bool
	now  time.Time
}

// New returns a page.
func New(o Options) *Page {
	p := &Page{Options: o, templates: parseTemplates(), graphs: make(chan struct{}, graphsAtOnce)}
	p.live.panicked = o.Panicked
	p.views = []view{
		{path: "/{$}", title: "Overview", template: "overview", live: history.Step, data: p.overview},
		{path: "/devices", title: "Devices", template: "devices", live: 10 * time.Second, data: p.devices},
		{path: "/devices/seen", title: "Devices", template: "seen", live: 10 * time.Second, data: p.seenDevices("/devices/seen", "/device")},
		{path: "/device", title: "Device", template: "device", live: 3 * time.Second, data: p.device},
		{path: "/changes", title: "Changes", template: "changes", role: admin.Operate, data: p.recordedChanges},
		{path: "/refusals", title: "Refusals", template: "refusals", live: 2 * time.Second, data: p.refusals},
	}
	if o.API.Tokens != nil {
		p.views = append(p.views,
			view{path: "/tokens", title: "Tokens", template: "tokens", data: p.tokens},
			view{path: "/token", title: "Token", template: "token", data: p.token})
	}
	if o.Telemetry != nil {
		p.views = append(p.views,
			view{path: "/telemetry", title: "Telemetry", template: "telemetry", live: 10 * time.Second, data: p.seenDevices("/telemetry", "/telemetry/device")},
			view{path: "/telemetry/device", title: "Telemetry", template: "telemetry-device", live: 5 * time.Second, data: p.deviceTelemetry})
	}
	return p
}

// Run ends all streams when ctx is done, and returns when they have ended.
func (p *Page) Run(ctx context.Context) {
	<-ctx.Done()
	p.live.close()
}

// Routes returns the routes of the page.
func (p *Page) Routes() []admin.Route {
	all := []admin.Route{{Pattern: "GET /assets/{name}", Role: admin.Everyone, Handler: http.HandlerFunc(asset)}}
	for _, v := range p.views {
		all = append(all, admin.Route{Pattern: "GET " + v.path, Role: cmp.Or(v.role, admin.Read), Handler: p.show(v)})
		if v.live > 0 {
			all = append(all, admin.Route{Pattern: "GET /live" + v.path, Role: cmp.Or(v.role, admin.Read), Handler: p.stream(v)})
		}
	}
	return append(all, p.changes()...)
}

// shown is what the layout of every page shows.
type shown struct {
	Title, Path string
	Role        string
	Operate     bool
	Sections    []section
	Live        string // the path of the stream, or empty
	Now         time.Time
	Data        any
}

// section is an entry of the navigation.
type section struct {
	Path, Title string
	Current     bool
}

// statusError is an error that the user sees.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// show answers with the page of a view.
func (p *Page) show(v view) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := newRequest(r)
		data, err := v.data(q)
		if err != nil {
			p.fail(w, r, err)
			return
		}
		s := p.layout(r, v.title)
		s.Data = data
		if v.live > 0 {
			s.Live = "/live" + r.URL.Path + "?" + q.query.Encode()
		}
		p.write(w, http.StatusOK, v.template, s)
	})
}

// newRequest returns a request as views see it.
func newRequest(r *http.Request) *request {
	return &request{
		Context: r.Context(), query: r.URL.Query(), now: time.Now(),
		operate: admin.RequesterOf(r.Context()).Role >= admin.Operate,
	}
}

// layout returns what is the same on every page.
func (p *Page) layout(r *http.Request, title string) shown {
	requester := admin.RequesterOf(r.Context())
	return shown{
		Title: title, Path: r.URL.Path, Role: requester.Role.String(), Operate: requester.Role >= admin.Operate,
		Sections: p.sections(r.URL.Path, requester.Role), Now: time.Now(),
	}
}

// sections returns the navigation of a role. The views whose paths begin with that of a section, or
// with its singular, belong to it.
func (p *Page) sections(path string, role admin.Role) []section {
	all := []section{{Path: "/", Title: "Overview"}, {Path: "/devices", Title: "Devices"}, {Path: "/refusals", Title: "Refusals"}}
	if p.API.Tokens != nil {
		if sources, err := p.API.TokenSources(); err != nil || len(sources) > 0 {
			all = append(all, section{Path: "/tokens", Title: "Tokens"})
		}
	}
	if p.Telemetry != nil {
		all = append(all, section{Path: "/telemetry", Title: "Telemetry"})
	}
	if role >= admin.Operate {
		all = append(all, section{Path: "/changes", Title: "Changes"})
	}
	for i, s := range all {
		all[i].Current = path == s.Path || s.Path != "/" && strings.HasPrefix(path, strings.TrimSuffix(s.Path, "s"))
	}
	return all
}

// fail answers with a page that says what is wrong.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusInternalServerError
	if s, ok := errors.AsType[*statusError](err); ok {
		status = s.status
	}
	s := p.layout(r, http.StatusText(status))
	s.Data = err.Error()
	p.write(w, status, "error", s)
}

// write answers with a page.
func (p *Page) write(w http.ResponseWriter, status int, template string, s shown) {
	var b bytes.Buffer // so that an error does not come after half a page
	if err := p.templates[template].ExecuteTemplate(&b, "layout", s); err != nil {
		http.Error(w, "the page cannot be shown: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}
