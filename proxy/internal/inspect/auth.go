package inspect

import "github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"

// Renewal handles the AUTH packets with which a client of MQTT 5.0 renews its token, section
// 4.12.1. The broker gets none of them.
type Renewal struct {
	// Method is the authentication method of the CONNECT.
	Method string
	// Renew is called with the new token, which is valid during the call only. It must return
	// at once; other packets pass on meanwhile. It returns false if the answer to an earlier
	// AUTH has not been sent.
	Renew func(token []byte) bool
}

// auth hands the token of an AUTH on. Whatever else an AUTH may be ends the session.
func (c *fromClient) auth(raw []byte) (verdict, error) {
	var a packets.Auth
	if err := a.Parse(raw, c.filter.level); err != nil {
		return verdict{}, err
	}
	method, _ := a.Properties.AuthenticationMethod()
	token, _ := a.Properties.AuthenticationData()
	broken := &packets.MalformedError{Type: packets.AUTH, Level: c.filter.level, Rule: "section 4.12.1", Code: packets.ProtocolError}
	switch {
	case a.Code != packets.Reauthenticate:
		broken.Reason = "it does not begin another authentication"
	case method != c.renewal.Method:
		broken.Rule, broken.Reason = "MQTT-4.12.1-1", "the authentication method is not that of the CONNECT"
	case len(token) == 0:
		broken.Reason = "it has no authentication data, which would be the token"
	case !c.renewal.Renew(token):
		broken.Reason = "an earlier one has not been answered"
	default:
		return verdict{drop: true}, nil
	}
	return verdict{}, broken
}
