package tokenhttp

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// answer is the answer of a service, parsed as far as any preset needs.
type answer struct {
	status      int
	contentType string
	body        []byte
	keep        authz.Keep // from the headers
	received    time.Time
	after       time.Duration // Retry-After, 0 if there is none
}

// decision is an interpreted answer.
type decision struct {
	outcome Outcome
	grant   *authz.Grant
	denial  *authz.Denial
	// passedOver are the restrictions in the answer that the grant does not have.
	passedOver []string
}

// reader interprets answers, by a preset and its changes in the configuration.
type reader struct {
	preset
	allowStatus, denyStatus []int
	// require has paths and the values that must be found there.
	require map[string]string
	// deviceAuth means that the token is in the Authorization header, so that a 401 is about
	// the token and not about the proxy.
	deviceAuth bool
	// vars are the variables that are sent to the service.
	vars []string
	// pair means that the service checks user name and token together, so that the user name it
	// accepts is the device's.
	pair bool
}

// byStatus returns what the status code alone decides. read means that the body decides.
func (p *reader) byStatus(status int) (then Outcome, read bool) {
	switch {
	case slices.Contains(p.denyStatus, status):
		return Denied, false
	case slices.Contains(p.allowStatus, status):
		return Allowed, false
	case status == 401 && p.deviceAuth, p.deny.has(status):
		return Denied, false
	case p.allow.has(status):
		return Allowed, false
	}
	return Failed, p.read.has(status)
}

// decide returns what the answer means for r. An error means that no decision was made.
func (p *reader) decide(a answer, r *authz.Request) (decision, error) {
	then, read := p.byStatus(a.status)
	f := facts{keep: a.keep}
	switch {
	case read:
		var err error
		if then, f, err = p.body(a, r); err != nil {
			return p.faulty(err, r)
		}
	case then == Denied:
		f.code, f.reason = statusCode(a.status), fmt.Sprintf("the service answers %d", a.status)
	}
	switch then {
	case Allowed:
		d, err := p.allowed(f, r, a.received)
		if err != nil {
			return p.faulty(err, r)
		}
		return d, nil
	case Denied:
		return p.denied(f, r)
	case Ignored:
		d := &authz.Denial{Reason: authz.Unknown, Detail: "the service leaves the decision to the next source", Keep: f.keep}
		return decision{outcome: Ignored, denial: d}, nil
	}
	return decision{}, statusFault(a.status)
}

// faulty returns the decision for an answer with a fault: none, unless the device itself chose
// the faulty value.
func (p *reader) faulty(err error, r *authz.Request) (decision, error) {
	if f, ok := errors.AsType[*deviceFault](err); ok {
		return refused(authz.NotAuthorized, f.Error(), authz.Keep{}), nil
	}
	if repeats(err.Error(), r) {
		err = errors.New("its answer has a fault whose description contains the secret")
	}
	return decision{}, err
}

// statusCode returns the reason_code of a denial by its status.
func statusCode(status int) string {
	if status == 401 || status == 404 {
		return "bad_credentials"
	}
	return "not_authorized"
}

// body reads the outcome and the facts from the body.
func (p *reader) body(a answer, r *authz.Request) (Outcome, facts, error) {
	var root strictjson.Object
	var err error
	switch p.formatOf(a) {
	case jsonAnswer:
		if root, err = strictjson.Parse(a.body); err != nil {
			err = fmt.Errorf("the answer is not one strict JSON object: %w", err)
		}
	case formAnswer:
		root, err = parseForm(a.body)
	case textAnswer:
		return p.text(a)
	default:
		err = errors.New("the answer's Content-Type is not supported")
	}
	if err != nil {
		return Failed, facts{}, err
	}
	then, why, err := p.outcome(root)
	if err != nil {
		return Failed, facts{}, err
	}
	fields := &fieldReader{root: root, paths: p.fields, lenient: p.lenient, now: a.received,
		rest: p.rest, ignore: p.ignoreInRules, forbid: p.forbid, vars: p.vars, chosen: []string{r.Username, r.ClientID}}
	f, err := fields.read(a.keep)
	f.reason = cmp.Or(f.reason, why)
	if err == nil && then == Allowed {
		err = fields.enforceable(p.refuse)
		f.passedOver = fields.present(p.passOver)
	}
	if err == nil && then == Allowed {
		var met bool
		if met, err = p.meets(root); !met {
			then, f.code, f.reason = Denied, "not_authorized", "a required claim is missing or has another value"
		}
	}
	return then, f, err
}

// formatOf returns the format of the body, or 0 if the preset has no such format.
func (p *reader) formatOf(a answer) answerFormat {
	media, _, err := mime.ParseMediaType(a.contentType)
	object := bytes.HasPrefix(bytes.TrimLeft(a.body, " \t\r\n"), []byte("{"))
	found := textAnswer
	switch {
	case a.contentType != "" && err != nil:
		return 0
	case media == "application/json" || strings.HasSuffix(media, "+json"):
		found = jsonAnswer
	case media == "application/x-www-form-urlencoded":
		found = formAnswer
	case object && (media == "" || p.answers&textAnswer != 0 && p.answers&jsonAnswer != 0):
		// Many servers send JSON as text/plain. If both are possible, the brace shows which it
		// is.
		found = jsonAnswer
	}
	if p.answers == textAnswer {
		return textAnswer
	}
	return found & p.answers
}

// outcome returns the outcome by the preset's rules, and the value that decided.
func (p *reader) outcome(root strictjson.Object) (then Outcome, why string, err error) {
	for _, rule := range p.rules {
		m, err := lookup(root, rule.path)
		if err != nil {
			return Failed, "", err
		}
		switch want := rule.is.(type) {
		case presence:
			if (m != nil) == bool(want) {
				return rule.then, rule.path, nil
			}
		default:
			if m != nil && m.Value == want {
				name, _, _ := strings.Cut(rule.path, "|")
				return rule.then, fmt.Sprintf("%s is %v", name, want), nil
			}
		}
	}
	return Failed, "", fmt.Errorf("%s is missing or has an unknown value", p.rules[0].path)
}

// text interprets plain text.
func (p *reader) text(a answer) (Outcome, facts, error) {
	f := facts{keep: a.keep}
	text := strings.TrimRight(string(a.body), " \t\r\n")
	if p.fold {
		text = strings.ToLower(strings.TrimSpace(text))
	}
	word, rest, _ := strings.Cut(text, " ")
	for _, rule := range p.texts {
		switch {
		case !rule.any && text != rule.word && (!rule.begin || word != rule.word):
			continue
		case rule.then == Failed:
			return Failed, f, errors.New("the answer is empty")
		case rule.begin && rule.then == Denied:
			f.reason = cmp.Or(rest, "the service answered "+rule.word)
		case rule.then == Denied:
			f.reason = text
		case rule.begin && rest != "":
			f.attrs = map[string]string{"tags": printable(rest)}
		}
		return rule.then, f, nil
	}
	return Failed, f, errors.New("the answer is an unknown word")
}

// meets reports whether the answer has every required claim: a string that is equal to the
// value, a list that contains it, or a scope that has it as one of its words.
func (p *reader) meets(root strictjson.Object) (bool, error) {
	for path, want := range p.require {
		m, err := lookup(root, path)
		if m == nil || err != nil {
			return false, err
		}
		var met bool
		switch v := m.Value.(type) {
		case string:
			met = v == want || path == "scope" && slices.Contains(strings.Fields(v), want)
		case []any:
			met = slices.Contains(v, any(want))
		}
		if !met {
			return false, nil
		}
	}
	return true, nil
}

func (p *reader) allowed(f facts, r *authz.Request, now time.Time) (decision, error) {
	switch {
	case !f.expires.IsZero() && !now.Before(f.expires):
		return refused(authz.Expired, "since "+f.expires.UTC().Format(time.RFC3339), f.keep), nil
	case now.Before(f.notBefore):
		keep := f.keep
		if wait := f.notBefore.Sub(now); keep.TTL == 0 || wait < keep.TTL {
			keep.TTL = wait
		}
		return refused(authz.NotYetValid, "until "+f.notBefore.UTC().Format(time.RFC3339), keep), nil
	}
	g := &authz.Grant{
		TokenID: f.tokenID, Subject: f.subject, Upstream: f.upstream, Only: f.only,
		ACL: f.acl, Limits: f.limits, Superuser: f.superuser, Role: f.role, Gateway: f.gateway, Attrs: f.attrs, Expires: f.expires, Recheck: f.recheck, Keep: f.keep,
	}
	if err := p.name(g, r); err != nil {
		return decision{}, err
	}
	return decision{outcome: Allowed, grant: g, passedOver: f.passedOver}, nil
}

func refused(reason authz.Reason, detail string, keep authz.Keep) decision {
	return decision{outcome: Denied, denial: &authz.Denial{Reason: reason, Detail: detail, Keep: keep}}
}

func (p *reader) denied(f facts, r *authz.Request) (decision, error) {
	reason, detail := p.preset.denied, printable(f.reason)
	if repeats(f.reason, r) {
		detail = "(the service's reason contains the secret)"
	}
	switch f.code {
	case "":
	case "bad_credentials":
		reason = authz.Unknown
	case "banned":
		reason = authz.Disabled
	case "busy":
		return decision{}, &fault{err: fmt.Errorf("%w: the service answered that it is busy", authz.ErrBusy), blameless: true}
	case "use_another_server":
		reason, detail = authz.NotAuthorized, strings.TrimSpace("the service refers the device to another server. "+detail)
	default:
		reason = authz.NotAuthorized
	}
	return refused(reason, detail, f.keep), nil
}

// printable shortens and cleans a text of the service for a log line.
func printable(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxReason)], "")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
