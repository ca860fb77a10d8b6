package tokenhttp

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"strconv"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/placeholder"
)

// input has the values of variables.
type input struct {
	request *authz.Request
	secret  string // of Options.SecretFile
}

// variable is a name that a template may contain.
type variable struct {
	name  string
	value func(in *input) string
	// neutral means that the value does not influence the answer and is not part of the key.
	neutral bool
}

func tokenText(in *input) string { return in.request.Token.Reveal() }

// allVariables returns every variable, in the order of the manual.
func allVariables() []variable {
	return []variable{
		{name: "token", value: tokenText},
		{name: "token_b64", value: func(in *input) string {
			return base64.StdEncoding.EncodeToString([]byte(in.request.Token.Reveal()))
		}},
		{name: "username", value: func(in *input) string { return in.request.Username }},
		{name: "password", value: func(in *input) string { return in.request.Password.Reveal() }},
		{name: "client_id", value: func(in *input) string { return in.request.ClientID }},
		{name: "client_addr", value: clientAddr},
		{name: "listener", value: func(in *input) string { return in.request.Listener }},
		{name: "proto", value: func(*input) string { return "mqtt" }, neutral: true},
		{name: "proto_version", value: func(in *input) string { return strconv.Itoa(int(in.request.Protocol)) }},
		{name: "cert_common_name", value: certCommonName},
		{name: "cert_subject", value: certSubject},
		{name: "cert_fingerprint", value: certFingerprint},
		{name: "cert_pem", value: certPEM},
		{name: "reason", value: func(in *input) string { return in.request.Purpose.String() }, neutral: true},
		{name: "secret", value: func(in *input) string { return in.secret }, neutral: true},
	}
}

func variableNamed(name string) (variable, bool) {
	all := allVariables()
	i := slices.IndexFunc(all, func(v variable) bool { return v.name == name })
	if i < 0 {
		return variable{}, false
	}
	return all[i], true
}

// grammar returns the placeholders of templates. With percent they include the variables that
// EMQX 4 wrote as % and a letter.
func grammar(percent bool) placeholder.Grammar {
	var g placeholder.Grammar
	for _, v := range allVariables() {
		g.Names = append(g.Names, v.name)
	}
	if percent {
		g.Percent = map[byte]string{
			'u': "username", 'c': "client_id", 'P': "password", 'a': "client_addr", 'r': "proto", 'C': "cert_common_name", 'd': "cert_subject",
		}
	}
	return g
}

func clientAddr(in *input) string {
	a := in.request.Addr.Addr()
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}

func certCommonName(in *input) string {
	if in.request.Peer == nil {
		return ""
	}
	return in.request.Peer.Subject.CommonName
}

func certSubject(in *input) string {
	if in.request.Peer == nil {
		return ""
	}
	return in.request.Peer.Subject.String()
}

func certFingerprint(in *input) string {
	if in.request.Peer == nil {
		return ""
	}
	sum := sha256.Sum256(in.request.Peer.Raw)
	return hex.EncodeToString(sum[:])
}

func certPEM(in *input) string {
	if in.request.Peer == nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: in.request.Peer.Raw}))
}
