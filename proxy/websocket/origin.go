package websocket

import (
	"net/http"
	"net/url"
	"strings"
)

// anyOrigin in a list of origins allows all of them.
const anyOrigin = "*"

// checkOrigin decides about the page that a browser connects for (RFC 6454 section 7, RFC 6455
// section 10.2). A request without an Origin does not come from a browser.
func (e *Endpoint) checkOrigin(origins []string, host string) error {
	switch {
	case len(origins) == 0:
		return nil
	case len(origins) > 1:
		return badRequest("there is more than one Origin")
	case sameHost(origins[0], host):
		return nil
	}
	for _, allowed := range e.Origins {
		if matchesOrigin(allowed, origins[0]) {
			return nil
		}
	}
	return &StatusError{Status: http.StatusForbidden, Text: "pages of this origin may not connect here", Origin: origins[0]}
}

// sameHost reports whether a page comes from the host that it connects to. The port may differ,
// because another program usually serves the page.
func sameHost(origin, host string) bool {
	page, err := url.Parse(origin)
	if err != nil || page.Hostname() == "" {
		return false
	}
	here := &url.URL{Host: host}
	return strings.EqualFold(page.Hostname(), here.Hostname())
}

// matchesOrigin compares an origin with an entry of the list.
func matchesOrigin(allowed, origin string) bool {
	if allowed == anyOrigin || strings.EqualFold(allowed, origin) {
		return true
	}
	scheme, domain, ok := strings.Cut(allowed, "://*.")
	if !ok {
		return false
	}
	prefix, suffix := strings.ToLower(scheme)+"://", "."+strings.ToLower(domain)
	origin = strings.ToLower(origin)
	label, found := strings.CutPrefix(origin, prefix)
	label, ends := strings.CutSuffix(label, suffix)
	return found && ends && label != "" && !strings.ContainsAny(label, "/:@?#")
}
