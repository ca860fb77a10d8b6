package authz

// Reason is why a token was refused, as logs and metrics have it. There are no other
// values than those below, so it is safe as a metric label.
type Reason string

// The reasons of a [Denial].
const (
	// Unknown: no source knows the token, or it is malformed.
	Unknown Reason = "unknown_token"
	// Expired: the grant's time is over.
	Expired Reason = "expired"
	// NotYetValid: the grant's time has not begun.
	NotYetValid Reason = "not_yet_valid"
	// Disabled: the token is known and switched off.
	Disabled Reason = "disabled"
	// Revoked: the token was withdrawn while it was being checked.
	Revoked Reason = "revoked"
	// WrongClientID: the token is bound to other client identifiers.
	WrongClientID Reason = "wrong_client_id"
	// WrongUsername: the token is bound to other user names.
	WrongUsername Reason = "wrong_username"
	// WrongAddress: the token may not be used from this address.
	WrongAddress Reason = "wrong_address"
	// WrongCertificate: the client certificate does not belong to the token.
	WrongCertificate Reason = "wrong_certificate"
	// NotAuthorized: the source denied the token without a more specific reason.
	NotAuthorized Reason = "not_authorized"
)

// Denial is a refusal with its reason. errors.Is(d, [ErrDenied]) always holds,
// errors.Is(d, [ErrUnknown]) if the reason is [Unknown].
type Denial struct {
	Reason Reason
	// Detail is for the log: which condition failed, or the reason that the source gave.
	// It never holds a secret and never reaches the device.
	Detail string
	// Keep is how long the denial may be remembered.
	Keep Keep
}

// Error returns the reason and the detail.
func (d *Denial) Error() string {
	if d.Detail == "" {
		return "denied: " + string(d.Reason)
	}
	return "denied: " + string(d.Reason) + ": " + d.Detail
}

// Is makes a Denial match [ErrDenied], and [ErrUnknown] where that is its
// reason.
func (d *Denial) Is(target error) bool {
	return target == ErrDenied || target == ErrUnknown && d.Reason == Unknown
}
