package admin

import (
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

const (
	// signInTime is how long a browser stays signed in.
	signInTime = 12 * time.Hour
	// maxSignIns is how many browsers can be signed in at once with a role. A further one signs
	// out the one of that role that signed in first.
	maxSignIns = 1000
	// maxForm is the size of the largest form, in bytes. The token has to fit.
	maxForm = 2 * MaxSecret
)

// signIns are the browsers that have signed in with a token. The browser has a random cookie,
// and only its digest is stored here. A sign-in ends after signInTime, when the browser signs
// out, when its token is no longer that of the role, and with the process.
type signIns struct {
	failures failures

	mu   sync.Mutex
	open map[[sha256.Size]byte]signIn // by the digest of the cookie
}

type signIn struct {
	role  Role
	token [sha256.Size]byte // digest of the token it was made with
	until time.Time
}

// role returns the role of the browser with a cookie, or Everyone.
func (s *signIns) role(cookie string, tokens Tokens) Role {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := sha256.Sum256([]byte(cookie))
	in, ok := s.open[id]
	switch {
	case !ok:
		return Everyone
	case !time.Now().Before(in.until) || tokens[in.role] == "" || tokens.digest(in.role) != in.token:
		delete(s.open, id)
		return Everyone
	}
	return in.role
}

// begin signs a browser in and returns its cookie.
func (s *signIns) begin(role Role, tokens Tokens) string {
	cookie := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.makeRoom(role)
	if s.open == nil {
		s.open = make(map[[sha256.Size]byte]signIn)
	}
	s.open[sha256.Sum256([]byte(cookie))] = signIn{role, tokens.digest(role), time.Now().Add(signInTime)}
	return cookie
}

// makeRoom ends the oldest sign-in with a role if there are as many as may be. s.mu is held.
func (s *signIns) makeRoom(role Role) {
	var first [sha256.Size]byte
	var until time.Time
	n := 0
	for id, in := range s.open {
		if in.role != role {
			continue
		}
		if n++; n == 1 || in.until.Before(until) {
			first, until = id, in.until
		}
	}
	if n >= maxSignIns {
		delete(s.open, first)
	}
}

// end signs the browser with a cookie out.
func (s *signIns) end(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, sha256.Sum256([]byte(cookie)))
}

// cookieName returns the name of the cookie. Browsers send the cookies of a host to all of its
// ports, so that proxies on one machine need names of their own. With TLS, the prefix keeps other
// hosts of the domain from setting the cookie.
func cookieName(r *http.Request) string {
	name := "mqtt-auth-proxy-" + strconv.Itoa(int(localAddrPort(r).Port()))
	if r.TLS != nil {
		return "__Host-" + name
	}
	return name
}

// carriesCookie reports whether a request has the cookie, with any value.
func carriesCookie(r *http.Request) bool {
	_, err := r.Cookie(cookieName(r))
	return err == nil
}

// cookieOf returns the cookie of a request. Requests that pages of other origins cause do not
// count, even if the browser sends the cookie, as it does for other ports of the same host.
func cookieOf(r *http.Request) (string, bool) {
	c, err := r.Cookie(cookieName(r))
	if err != nil || fromElsewhere(r) {
		return "", false
	}
	return c.Value, true
}

// fromElsewhere reports whether a page of another origin has caused a request.
func fromElsewhere(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "same-origin" && site != "none"
}

// setCookie makes the browser keep a cookie, or forget it if the value is empty.
func setCookie(w http.ResponseWriter, r *http.Request, value string) {
	c := &http.Cookie{
		Name: cookieName(r), Value: value, Path: "/", MaxAge: int(signInTime.Seconds()),
		Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// signIn answers POST /sign-in, with the fields token and next of a form.
func (g *gate) signIn(w http.ResponseWriter, r *http.Request) {
	access := g.access()
	if !access.guarded(r) {
		g.askToSignIn(w, r, http.StatusForbidden, "")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		problem.Write(w, http.StatusBadRequest, "the body is not a form, or is too large")
		return
	}
	role := Everyone
	wait := g.signIns.failures.try(remoteAddr(r), func() bool {
		role = access.Tokens.role(strings.TrimSpace(r.PostForm.Get("token")))
		return role > Everyone
	})
	switch {
	case wait > 0:
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		g.askToSignIn(w, r, http.StatusTooManyRequests, "There were too many wrong tokens from your address. Wait a minute and try again.")
	case role == Everyone:
		if g.wrong != nil {
			g.wrong(RequesterOf(r.Context()).Address)
		}
		g.askToSignIn(w, r, http.StatusUnauthorized, "This is not a token of this proxy. Copy it from the file that admin.token_file names.")
	case role == Metrics:
		g.askToSignIn(w, r, http.StatusForbidden, "This token is only for /metrics. Sign in with the token of the role read or operate.")
	default:
		setCookie(w, r, g.signIns.begin(role, access.Tokens))
		q := Requester{Role: role, Name: role.String(), Address: RequesterOf(r.Context()).Address}
		g.audit.Record(q.with(r).Context(), "sign in", "", "for "+signInTime.String())
		redirect(w, r.PostForm.Get("next"))
	}
}

// signOut answers POST /sign-out.
func (g *gate) signOut(w http.ResponseWriter, r *http.Request) {
	if cookie, ok := cookieOf(r); ok {
		g.signIns.end(cookie)
	}
	if RequesterOf(r.Context()).Role > Everyone {
		g.audit.Record(r.Context(), "sign out", "", "the cookie no longer counts")
	}
	setCookie(w, r, "")
	redirect(w, "/")
}

// redirect sends a browser to a path of the admin side, and to / for anything else.
func redirect(w http.ResponseWriter, next string) {
	w.Header().Set("Location", localPath(next))
	w.WriteHeader(http.StatusSeeOther)
}

// localPath returns next if it is a path of this server with a query, and otherwise /. Browsers
// take // and /\ at the beginning for another host.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.Contains(next, `\`) {
		return "/"
	}
	return u.RequestURI()
}

//go:embed signin.html
var signInHTML string

// form is what the template signin.html shows.
type form struct {
	Text    string // why an attempt has failed
	Next    string // the path to show after the sign-in
	Host    string // by which the browser knows the admin side
	Guarded bool   // see Access.guarded
	// Again makes the browser send the request again. A browser does not send the cookie when the
	// user has followed a link from another site, but it does when this page makes the request.
	Again bool
}

// askToSignIn answers with the form that signs in. text says why an attempt has failed.
func (g *gate) askToSignIn(w http.ResponseWriter, r *http.Request, status int, text string) {
	f := form{
		Text: text, Next: r.URL.RequestURI(), Host: hostOf(r.Host),
		Guarded: g.access().guarded(r), Again: fromElsewhere(r),
	}
	if r.Method == http.MethodPost {
		f.Next, f.Again = localPath(r.PostForm.Get("next")), false
	}
	if status == http.StatusUnauthorized {
		challenge(w)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = g.form.Execute(w, f) // fails only if the client has gone
}
