package tokenhttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/placeholder"
)

const (
	maxReason  = 256
	maxSubject = 256
	maxTokenID = 128
	maxAttrs   = 64
	maxAttr    = 4096
	maxNames   = 1024 // entries in a list of client ids or user names
	// milliseconds is where a time in seconds must be meant as milliseconds: the
	// year 5138.
	milliseconds = 100_000_000_000
	// minInterval is the minimum of revalidate_after and max_session in seconds.
	minInterval = 30
)

// fieldNames returns the fields of a native answer other than result.
func fieldNames() []string {
	return []string{
		"reason", "reason_code", "expire_at", "expires_in", "not_before", "cache_ttl",
		"stale_if_error", "vary", "revalidate_after", "max_session", "subject", "token_id",
		"clientid", "username", "upstream.username", "upstream.password",
		"upstream.clientid", "upstream.pool", "client_attrs", "acl", "acl_no_match",
		"is_superuser", "role", "gateway", "limits",
	}
}

// facts has the content of an answer apart from its outcome.
type facts struct {
	reason, code       string
	expires, notBefore time.Time
	keep               authz.Keep
	recheck            time.Duration
	subject, tokenID   string
	only               authz.Conditions
	upstream           authz.Upstream
	attrs              map[string]string
	acl                *authz.ACL
	limits             authz.Limits
	superuser, gateway bool
	role               authz.Role
	passedOver         []string
}

// fieldReader reads the fields of one answer; err is the first fault.
type fieldReader struct {
	root    strictjson.Object
	paths   map[string]string
	lenient bool
	now     time.Time
	rest    authz.NoMatch // of access lists
	ignore  []string      // keys of their rules
	forbid  map[string]authz.Rule
	vars    []string // that were sent to the service
	chosen  []string // values that the device chose and that services repeat
	err     error
}

func (f *fieldReader) fail(name, why string) {
	if f.err == nil {
		f.err = fmt.Errorf("%s: %s", name, why)
	}
}

// get returns the member that has the field, or nil if there is none.
func (f *fieldReader) get(name string) *strictjson.Member {
	path, ok := f.paths[name]
	if !ok || f.err != nil {
		return nil
	}
	m, err := lookup(f.root, path)
	switch {
	case err != nil:
		f.fail(name, err.Error())
		return nil
	case m != nil && m.Value == nil && f.lenient:
		return nil
	case m != nil && m.Value == nil:
		f.fail(name, "null; omit the field")
		return nil
	}
	return m
}

// read reads everything but the outcome.
func (f *fieldReader) read(keep authz.Keep) (facts, error) {
	a := facts{
		code:      f.text("reason_code", maxReason),
		notBefore: f.instant("not_before", time.Unix(0, 0)),
		keep:      f.vary(f.keep(keep)),
		subject:   f.text("subject", maxSubject),
		tokenID:   f.text("token_id", maxTokenID),
		upstream:  f.upstream(),
		attrs:     f.attrs("client_attrs"),
	}
	// The reason is only for the log, and a bad one is no error.
	if m, err := lookup(f.root, f.paths["reason"]); err == nil && m != nil {
		a.reason, _ = m.Value.(string)
	}
	a.only.ClientIDs, a.only.Usernames = f.names("clientid"), f.names("username")
	a.expires = earliest(f.instant("expire_at", time.Unix(0, 0)), f.instant("expires_in", f.now))
	if d, ok := f.seconds("max_session", f.least(minInterval)); ok {
		// The limit of the session becomes the expiry of the grant: a session whose grant comes
		// from a cache ends a little early, never late.
		a.expires = earliest(a.expires, f.now.Add(d))
	}
	a.recheck, _ = f.seconds("revalidate_after", f.least(minInterval))
	a.superuser, a.gateway = f.flag("is_superuser"), f.flag("gateway")
	a.role = f.role()
	a.acl = f.acl(a.superuser)
	a.limits = f.limits()
	return a, f.err
}

// least returns the lower bound of a duration. Those of other services are not bounded.
func (f *fieldReader) least(n float64) float64 {
	if f.lenient {
		return 1
	}
	return n
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// keep reads the fields about reuse, which override the headers.
func (f *fieldReader) keep(keep authz.Keep) authz.Keep {
	if d, ok := f.seconds("cache_ttl", 0); ok {
		keep = authz.Keep{TTL: d}
		if d == 0 {
			keep = notAtAll()
		}
	}
	if d, ok := f.seconds("stale_if_error", 0); ok && keep.TTL >= 0 {
		keep.Stale = d
		if d == 0 {
			keep.Stale = -1
		}
	}
	return keep
}

// vary reads the variables that the answer depends on besides the token. A variable that was
// not sent to the service is an error.
func (f *fieldReader) vary(keep authz.Keep) authz.Keep {
	m := f.get("vary")
	if m == nil {
		return keep
	}
	list, ok := m.Value.([]any)
	if !ok {
		f.fail("vary", "not a list")
		return keep
	}
	keep.Narrow = true
	for _, v := range list {
		text, _ := v.(string)
		name := placeholder.Named(text).Name
		part, known := partOf(name)
		if !known || !slices.Contains(f.vars, name) {
			f.fail("vary", "names a variable that is not sent to the service")
			return keep
		}
		keep.Vary |= part
	}
	return keep
}

// partOf returns the part of a request that a variable contains.
func partOf(variable string) (part authz.Parts, known bool) {
	switch {
	case variable == "token":
		return 0, true
	case variable == "client_id":
		return authz.PartClientID, true
	case variable == "username":
		return authz.PartUsername, true
	case variable == "password":
		return authz.PartPassword, true
	case variable == "client_addr":
		return authz.PartAddr, true
	case variable == "listener":
		return authz.PartListener, true
	case strings.HasPrefix(variable, "cert_"):
		return authz.PartCertificate, true
	case strings.HasPrefix(variable, "proto"):
		return authz.PartProtocol, true
	}
	return 0, false
}

func (f *fieldReader) upstream() authz.Upstream {
	if f.paths["upstream.pool"] == "upstream.pool" {
		f.onlyKeys("upstream", "username", "password", "clientid", "pool")
	}
	u := authz.Upstream{
		Username: f.text("upstream.username", maxValue),
		ClientID: f.text("upstream.clientid", maxValue),
	}
	if m := f.get("upstream.password"); m != nil {
		s, ok := m.Value.(string)
		if d, damaged := m.Value.(strictjson.Damaged); damaged { // a password may contain NUL
			s, ok = string(d), !strings.ContainsRune(string(d), utf8.RuneError)
		}
		if !ok || len(s) > maxValue {
			f.fail("upstream.password", "not a string, or too long")
		}
		u.Password = authz.NewToken(s)
	}
	return u
}

// acl reads the access list. A superuser has one that leaves everything to the broker.
func (f *fieldReader) acl(superuser bool) *authz.ACL {
	o := authz.ACLOptions{Rest: f.rest, Ignore: f.ignore}
	switch f.text("acl_no_match", maxReason) {
	case "":
	case "deny":
		o.Rest = authz.DenyRest
	case "defer":
		o.Rest = authz.DeferRest
	default:
		f.fail("acl_no_match", "neither deny nor defer")
	}
	var list *authz.ACL
	var err error
	if m := f.get("acl"); m != nil {
		if list, err = authz.ParseACL(m.Raw, o); err != nil {
			f.fail("acl", err.Error())
		}
	}
	if rules := f.forbidden(); rules != nil {
		if list, err = authz.NewACL(authz.DeferRest, rules...); err != nil {
			f.fail("acl", err.Error())
		}
	}
	if superuser {
		if list, err = authz.NewACL(authz.DeferRest); err != nil {
			f.fail("is_superuser", err.Error())
		}
	}
	return list
}

// limits reads the limits of the device's sessions. VerneMQ has two of them under other names.
func (f *fieldReader) limits() (l authz.Limits) {
	if m := f.get("limits"); m != nil {
		var err error
		if l, err = authz.ParseLimits(m.Raw); err != nil {
			f.fail("limits", strings.TrimPrefix(err.Error(), "limits: "))
		}
	}
	if n := f.whole("max_message_size"); n > 0 {
		l.MaxPacket = packetSize(n)
	}
	if n := f.whole("max_message_rate"); n > 0 {
		l.PublishRate = n
	}
	return l
}

// whole reads a whole number that is at least 0. One that is above every limit counts as 0, which
// sets no limit.
func (f *fieldReader) whole(name string) int64 {
	n, ok := f.number(name)
	switch {
	case !ok:
		return 0
	case n < 0 || n != math.Trunc(n):
		f.fail(name, "not a whole number of at least 0")
		return 0
	case n > authz.MaxPacketSize:
		return 0
	}
	return int64(n)
}

// packetSize returns the size of a packet whose remaining length is n, because VerneMQ's
// max_message_size does not include the fixed header.
func packetSize(n int64) int64 {
	header := int64(2)
	for rest := n; rest > 0x7F; rest >>= 7 {
		header++
	}
	return min(n+header, authz.MaxPacketSize)
}

// forbidden returns rules for the actions that the answer forbids to the device.
func (f *fieldReader) forbidden() (rules []authz.Rule) {
	for _, path := range slices.Sorted(maps.Keys(f.forbid)) {
		m, err := lookup(f.root, path)
		switch {
		case err != nil:
			f.fail(path, err.Error())
		case m == nil || m.Value == nil || m.Value == true:
		case m.Value == false:
			rules = append(rules, f.forbid[path])
		default:
			f.fail(path, "neither true nor false")
		}
	}
	return rules
}

func (f *fieldReader) role() authz.Role {
	name := f.text("role", maxReason)
	if name == "" {
		return authz.RoleDevice
	}
	role, err := authz.ParseRole(name)
	if err != nil {
		f.fail("role", "neither device nor reader")
	}
	return role
}

func (f *fieldReader) flag(name string) bool {
	m := f.get(name)
	if m == nil {
		return false
	}
	switch m.Value {
	case true, json.Number("1"):
		return true
	case false, json.Number("0"):
		return false
	}
	if !f.lenient {
		f.fail(name, "neither true nor false")
	}
	return m.Value == "true"
}

// onlyKeys refuses unknown keys, because a misspelled key would otherwise be ignored.
func (f *fieldReader) onlyKeys(name string, keys ...string) {
	m, err := lookup(f.root, name)
	if err != nil || m == nil {
		return // get reports the error
	}
	o, _ := m.Value.(strictjson.Object)
	for _, k := range o {
		if !slices.Contains(keys, k.Key) {
			f.fail(name, "it has an unknown key; known keys are "+strings.Join(keys, ", "))
		}
	}
}

// enforceable refuses restrictions that a grant cannot express: a grant without them would
// allow more than the service does.
func (f *fieldReader) enforceable(refuse []string) error {
	if f.text("upstream.pool", maxSubject) != "" {
		f.fail("upstream.pool", "the proxy does not choose brokers by the answer")
	}
	for _, path := range refuse {
		m, err := lookup(f.root, path)
		if err != nil {
			return err
		}
		if m != nil && m.Value != nil && m.Value != "" {
			return errors.New(path + ": the proxy cannot enforce it")
		}
	}
	return f.err
}

// present returns the paths at which the answer has a value.
func (f *fieldReader) present(paths []string) (found []string) {
	for _, path := range paths {
		if m, err := lookup(f.root, path); err == nil && m != nil && m.Value != nil {
			found = append(found, path)
		}
	}
	return found
}
