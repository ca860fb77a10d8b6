package admin

import (
	"cmp"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

// gate lets requests through to the routes that their role may use.
type gate struct {
	access  func() *Access
	form    *template.Template // signin.html
	audit   *Audit
	wrong   func(address string) // Options.WrongSignIn
	signIns signIns
}

// Route is a path of the admin side.
type Route struct {
	// Pattern is a pattern of http.ServeMux.
	Pattern string
	// Role is the lowest role that may use the route. The zero value is Operate. Unless the
	// route is for everyone, methods other than GET and HEAD need Operate in any case.
	Role Role
	// Handler finds out with RequesterOf who has sent a request.
	Handler http.Handler
}

// protect returns the handler of a route behind the gate. named says that the Host header is
// checked even if the request carries no cookie, since the route is for browsers.
func (g *gate) protect(route Route, named bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access := g.access()
		if (named || carriesCookie(r)) && !access.named(r) {
			problem.Write(w, http.StatusMisdirectedRequest, "the admin side does not know this name as its own; if browsers should use it, add it to admin.hosts")
			return
		}
		header, ok := authorization(r)
		if !ok {
			problem.Write(w, http.StatusBadRequest, "the headers Authorization and X-Authorization differ: send one of them")
			return
		}
		q := g.requester(access, r, header)
		if q.Role > Everyone {
			trustConnection(r)
		}
		need := route.needs(r.Method)
		switch {
		case q.Role >= need:
			route.Handler.ServeHTTP(w, q.with(r))
		case q.Role > Everyone:
			problem.Write(w, http.StatusForbidden, "this needs the role "+need.String()+", and the token has the role "+q.Role.String())
		case asksForHTML(r) && access.named(r):
			g.askToSignIn(w, r, http.StatusUnauthorized, "")
		default:
			challenge(w)
			problem.Write(w, http.StatusUnauthorized, "send a token as bearer token: that of the role operate is in the file that admin.token_file names")
		}
	})
}

// needs returns the role that a request with the method needs.
func (r Route) needs(method string) Role {
	if r.Role != Everyone && method != http.MethodGet && method != http.MethodHead {
		return Operate
	}
	return cmp.Or(r.Role, Operate)
}

// authorization returns the Authorization header of a request, or "". Below /api/ the header
// X-Authorization, which ThingsBoard's clients send, means the same. ok is false if the headers
// have different values: a proxy in front may have checked the other one.
func authorization(r *http.Request) (header string, ok bool) {
	all := r.Header.Values("Authorization")
	if strings.HasPrefix(r.URL.Path, "/api/") {
		all = append(slices.Clip(all), r.Header.Values("X-Authorization")...)
	}
	for _, other := range all {
		if other != all[0] {
			return "", false
		}
	}
	return strings.Join(all[:min(1, len(all))], ""), true
}

// requester returns who has sent a request with an Authorization header, which may be empty. A
// bearer token counts before a cookie.
func (g *gate) requester(a *Access, r *http.Request, header string) Requester {
	q := Requester{Role: Everyone}
	if addr := remoteAddr(r); addr.IsValid() {
		q.Address = addr.String()
	}
	if header != "" {
		given, _ := bearer(header)
		q.Role = a.Tokens.role(given)
		digest := a.Tokens.digest(q.Role)
		q.current = func() bool { return q.Role > Everyone && g.access().Tokens.digest(q.Role) == digest }
	} else if id, ok := cookieOf(r); ok {
		q.Role = g.signIns.role(id, a.Tokens)
		q.current = func() bool { return q.Role > Everyone && g.signIns.role(id, g.access().Tokens) == q.Role }
	}
	q.Name = q.Role.String()
	return q
}

// bearer returns the token in an Authorization header. The scheme is case-insensitive (RFC
// 9110 section 11.1).
func bearer(header string) (string, bool) {
	scheme, rest, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.TrimLeft(rest, " "), true
}

// challenge says that bearer tokens are accepted (RFC 6750 section 3).
func challenge(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="mqtt-auth-proxy"`)
}

// asksForHTML reports whether a browser wants to show the answer.
func asksForHTML(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html")
}
