package tokenhttp

import "github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"

// Outcome is the result of one question to a service. The set is closed: it is safe as a metric
// label.
type Outcome string

// The outcomes of a [Call].
const (
	Allowed Outcome = "allowed" // a grant
	Denied  Outcome = "denied"  // the service denied the device
	Ignored Outcome = "ignored" // the service leaves the decision to the next source
	Failed  Outcome = "failed"  // no decision: a fault of the service or of the way to it
	Busy    Outcome = "busy"    // the service asks for a pause, or is not asked during one
	Refused Outcome = "refused" // not asked: the device's data cannot be used in the request
)

// preset describes the requests to one kind of service, and its answers.
type preset struct {
	method  string
	format  string            // of the body: json, form, query or none
	bodies  map[string]string // templates by format
	binary  string            // the json body if the token is not UTF-8
	body5   string            // the json body for MQTT 5, if different
	headers map[string]string
	// headers5 replaces headers for MQTT 5.
	headers5 map[string]string
	percent  bool
	// pair means that the service checks a user name and a password. If the request has the
	// user name besides the token, both together are the credential.
	pair bool

	allow, deny spans // status codes that decide without the body
	read        spans // status codes with which the body decides
	answers     answerFormat
	rules       []rule
	texts       []textRule
	fold        bool              // texts are compared in lower case and without surrounding space
	fields      map[string]string // fields of the native answer to paths in this one
	refuse      []string          // paths of restrictions that cannot be enforced, which are errors
	// forbid holds paths that are false if the device may not do what the rule is
	// about, passOver those of restrictions that are left to the broker.
	forbid   map[string]authz.Rule
	passOver []string
	denied   authz.Reason // of a denial without a reason
	// rest is what happens to what no rule of an access list fits, and
	// ignoreInRules lists keys of rules that the broker passes over as well.
	rest          authz.NoMatch
	ignoreInRules []string
	// lenient: null counts as absent, integers may be strings of digits, and attributes that
	// are not strings are ignored.
	lenient bool
}

// span is a range of status codes, both ends included.
type span struct{ from, to int }

type spans []span

func (s spans) has(status int) bool {
	for _, r := range s {
		if r.from <= status && status <= r.to {
			return true
		}
	}
	return false
}

// answerFormat is the set of formats that an answer may have.
type answerFormat uint8

const (
	jsonAnswer answerFormat = 1 << iota
	formAnswer
	textAnswer
)

// rule decides by a JSON value: the first that matches counts. If none does, the answer is an
// error.
type rule struct {
	path string
	is   any // a string, a bool, present or missing
	then Outcome
}

type presence bool

const (
	present presence = true
	missing presence = false
)

// textRule decides by a text that is equal to the word, or begins with it and a space.
type textRule struct {
	word  string
	begin bool
	any   bool // every text
	then  Outcome
}

const emqxJSON = `{"username":"${username}","password":"${password}","clientid":"${client_id}"}`

// presetNamed returns the preset with that name.
func presetNamed(name string) (preset, bool) {
	switch name {
	case "", "native":
		return native(), true
	case "emqx":
		return emqx(), true
	case "emqx4":
		return emqx4(), true
	case "goauth":
		return goauth(), true
	case "vernemq":
		return vernemq(), true
	case "introspection":
		return introspection(), true
	case "status":
		return status(), true
	case "rabbitmq":
		return rabbitmq(), true
	}
	return preset{}, false
}

// Presets returns the values of Options.Preset.
func Presets() []string {
	return []string{"native", "emqx", "emqx4", "goauth", "vernemq", "introspection", "status", "rabbitmq"}
}

func native() preset {
	const rest = `"username":"${username}","clientid":"${client_id}","reason":"${reason}"}`
	fields := make(map[string]string)
	for _, f := range fieldNames() {
		fields[f] = f
	}
	return preset{
		method: "POST", format: "json",
		bodies:  map[string]string{"json": `{"v":1,"token":"${token}",` + rest},
		binary:  `{"v":1,"token_b64":"${token_b64}",` + rest,
		allow:   spans{{204, 204}},
		deny:    spans{{403, 403}},
		read:    spans{{200, 200}},
		answers: jsonAnswer,
		rules: []rule{
			{"result", "allow", Allowed},
			{"result", "deny", Denied},
			{"result", "ignore", Ignored},
		},
		fields: fields,
		denied: authz.NotAuthorized,
	}
}

// emqx is the HTTP authentication of EMQX 5 and 6.
func emqx() preset {
	return preset{
		pair:   true,
		method: "POST", format: "json",
		bodies: map[string]string{
			"json": emqxJSON,
			"form": "username=${username}&password=${password}&clientid=${client_id}",
		},
		allow:   spans{{204, 204}},
		read:    spans{{200, 200}},
		answers: jsonAnswer | formAnswer,
		rules: []rule{
			{"result", "allow", Allowed},
			{"result", "deny", Denied},
			{"result", "ignore", Ignored},
			{"result", missing, Ignored},
		},
		fields: map[string]string{
			"expire_at": "expire_at", "acl": "acl", "client_attrs": "client_attrs",
			"is_superuser": "is_superuser", "upstream.clientid": "clientid_override",
		},
		denied:        authz.NotAuthorized,
		rest:          authz.DeferRest,
		ignoreInRules: []string{"username", "clientid"},
		lenient:       true,
	}
}

// emqx4 is emqx-auth-http of EMQX 4 and before.
func emqx4() preset {
	return preset{
		pair:   true,
		method: "POST", format: "form", percent: true,
		bodies: map[string]string{
			"form": "clientid=%c&username=%u&password=%P",
			"json": `{"clientid":"%c","username":"%u","password":"%P"}`,
		},
		deny:    spans{{401, 401}, {403, 403}},
		read:    spans{{200, 200}},
		answers: textAnswer,
		texts:   []textRule{{word: "ignore", then: Ignored}, {any: true, then: Allowed}},
		denied:  authz.NotAuthorized,
	}
}

// goauth is the http backend of mosquitto-go-auth.
func goauth() preset {
	return preset{
		pair:   true,
		method: "POST", format: "json",
		bodies: map[string]string{
			"json": emqxJSON,
			"form": "username=${username}&password=${password}&clientid=${client_id}",
		},
		deny:    spans{{401, 401}, {403, 403}},
		read:    spans{{200, 299}},
		answers: jsonAnswer | textAnswer,
		rules: []rule{
			{"ok|Ok", true, Allowed},
			{"ok|Ok", false, Denied},
		},
		texts: []textRule{
			{word: "ok", then: Allowed},
			{word: "", then: Failed},
			{any: true, then: Denied},
		},
		fields:  map[string]string{"reason": "error|Error"},
		denied:  authz.Unknown,
		lenient: true,
	}
}

// vernemq is the auth_on_register hook of vmq_webhooks.
func vernemq() preset {
	const head = `{"peer_addr":"${client_addr}","peer_port":0,"mountpoint":"","client_id":"${client_id}",` +
		`"username":"${username}","password":"${password}",`
	return preset{
		pair:   true,
		method: "POST", format: "json",
		bodies:   map[string]string{"json": head + `"clean_session":true}`},
		body5:    head + `"clean_start":true,"properties":{}}`,
		headers:  map[string]string{"vernemq-hook": "auth_on_register"},
		headers5: map[string]string{"vernemq-hook": "auth_on_register_m5"},
		read:     spans{{200, 200}},
		answers:  jsonAnswer,
		rules: []rule{
			{"result", "ok", Allowed},
			{"result", "next", Ignored},
			{"result.error", present, Denied},
		},
		fields: map[string]string{
			"reason":            "result.error",
			"max_session":       "modifiers.max_connection_lifetime",
			"upstream.clientid": "modifiers.client_id", "upstream.username": "modifiers.username",
			"max_message_size": "modifiers.max_message_size", "max_message_rate": "modifiers.max_message_rate",
		},
		refuse: []string{"modifiers.mountpoint", "modifiers.subscriber_id"},
		forbid: map[string]authz.Rule{
			"modifiers.allow_publish":   {Deny: true, Publish: true, Topics: []string{"#"}},
			"modifiers.allow_subscribe": {Deny: true, Subscribe: true, Topics: []string{"#"}},
		},
		passOver: []string{
			"modifiers.max_inflight_messages",
			"modifiers.max_online_messages", "modifiers.max_offline_messages", "modifiers.max_drain_time",
			"modifiers.max_msgs_per_drain_step", "modifiers.queue_type", "modifiers.queue_deliver_mode",
			"modifiers.clean_session", "modifiers.retry_interval", "modifiers.upgrade_qos",
			"modifiers.allow_unsubscribe", "modifiers.allow_multiple_sessions", "modifiers.shared_subscription_policy",
		},
		denied:  authz.NotAuthorized,
		lenient: true,
	}
}

// introspection is OAuth 2 token introspection (RFC 7662).
func introspection() preset {
	return preset{
		method: "POST", format: "form",
		bodies:  map[string]string{"form": "token=${token}&token_type_hint=access_token"},
		read:    spans{{200, 200}},
		answers: jsonAnswer,
		rules: []rule{
			{"active", true, Allowed},
			{"active", false, Denied},
		},
		fields: map[string]string{
			"expire_at": "exp", "not_before": "nbf", "subject": "sub", "token_id": "jti",
		},
		denied:  authz.Unknown,
		lenient: true,
	}
}

// status is any page that answers 200 to a valid token.
func status() preset {
	return preset{
		method: "GET", format: "none",
		allow:  spans{{200, 204}},
		deny:   spans{{401, 401}, {403, 403}},
		denied: authz.NotAuthorized,
	}
}

// rabbitmq is the user path of rabbitmq_auth_backend_http.
func rabbitmq() preset {
	const form = "username=${username}&password=${password}&client_id=${client_id}&vhost=%2F"
	return preset{
		pair:   true,
		method: "POST", format: "form",
		bodies:  map[string]string{"form": form},
		read:    spans{{200, 201}},
		answers: textAnswer,
		texts: []textRule{
			{word: "allow", begin: true, then: Allowed},
			{word: "deny", begin: true, then: Denied},
		},
		fold:   true,
		denied: authz.Unknown,
	}
}
