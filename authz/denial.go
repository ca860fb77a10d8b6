package authz

// Reason is the reason for a denial in logs and metrics. It has only the values below, so it is
// safe as a metric label.
type Reason string

// The reasons of a [Denial].
const (
	// Unknown: no source knows the token, or it is malformed.
	Unknown Reason = "unknown_token"
	// Expired: the grant has expired.
	Expired Reason = "expired"
	// NotYetValid: the grant is not valid yet.
	NotYetValid Reason = "not_yet_valid"
	// Disabled: the token is known but disabled.
	Disabled Reason = "disabled"
	// Revoked: the token was withdrawn while it was being checked.
	Revoked Reason = "revoked"
	// WrongPassword: the source knows the user name, and the password is another.
	WrongPassword Reason = "wrong_password"
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
	// Detail is for the log: it says which condition failed, or why the source denied. It never
	// contains a secret and is never sent to the device.
	Detail string
	// Subject is the device that the token belongs to, if the source knows it, so that refusals can
	// be found by device. For [WrongPassword] it is only the device that the client claims to be.
	Subject string
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

// Is makes a Denial match [ErrDenied], and [ErrUnknown] if that is its reason.
func (d *Denial) Is(target error) bool {
	return target == ErrDenied || target == ErrUnknown && d.Reason == Unknown
}
