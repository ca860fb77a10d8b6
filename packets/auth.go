package packets

// Auth is an AUTH packet, MQTT 5.0 section 3.15. It always names an authentication method, so
// the packet is never empty.
type Auth struct {
	// Code is Success, ContinueAuthentication or Reauthenticate.
	Code ReasonCode
	// Properties has the AuthenticationMethod and, most often, the AuthenticationData.
	Properties Properties
}

// Parse reads an AUTH that is all of raw. The properties point into raw afterwards. The error is
// a *MalformedError, as it is for every level below 5.
func (a *Auth) Parse(raw []byte, level byte) error {
	*a = Auth{}
	if level < 5 {
		return faultType.in(AUTH, level)
	}
	cur, err := open(raw, AUTH, level)
	if err != nil {
		return err
	}
	code, properties, err := cur.outcome()
	if err != nil {
		return err
	}
	switch _, named := properties.AuthenticationMethod(); {
	case code != Success && code != ContinueAuthentication && code != Reauthenticate:
		return cur.refuse(faultAuthCode)
	case !named:
		return cur.refuse(faultAuthMethod)
	}
	a.Code, a.Properties = code, properties
	return nil
}

// Append appends the packet to dst and returns the result.
func (a *Auth) Append(dst []byte, level byte) []byte {
	dst = appendVarint(append(dst, AUTH.firstByte()), outcomeLen(level, a.Code, a.Properties))
	return appendOutcome(dst, level, a.Code, a.Properties)
}
