package proxy

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// maxClientID31 is the length in characters of the longest client id of MQTT 3.1 (section
// 3.1). Every broker of 3.1.1 must accept letters and digits of that length (section
// 3.1.3.1).
const maxClientID31 = 23

// chooseClientID chooses the client id by which the session is known, and the one that
// stands for it towards the broker: the client's own, or one that is made up for a client
// that sent none. Some devices use their token as client id. A token must be neither logged
// nor sent to the broker.
func (c *conn) chooseClientID() {
	if c.login.connect.ClientID == "" {
		c.login.clientID = "p" + rand.Text()[:maxClientID31-1]
		c.login.sentID = c.login.clientID
		return
	}
	c.login.clientID, c.login.sentID = c.mask(c.login.connect.ClientID)
}

// shownDigits is how many digits of a pseudonym stand for a password in logs.
const shownDigits = 8

// fingerprint returns what stands for the credential in the log of a refusal. The
// fingerprint of a password would let it be guessed, so that a client whose token may be a
// password is shown by its user name.
func (c *conn) fingerprint() string {
	switch {
	case c.login.client != nil:
		return c.login.client.Fingerprint()
	case !c.login.pair.IsZero() && (c.login.token.IsZero() || c.login.token.Equal(c.login.pair.Password)):
		return authz.NewToken(c.login.pair.Username).Fingerprint()
	}
	return c.login.token.Fingerprint()
}

// mask returns what stands for a field of the CONNECT in logs and towards the broker. If the
// field is the token or the password, that is its fingerprint and its pseudonym, otherwise a
// copy of the field. A password that is half of a pair can be guessed from its fingerprint, so
// the beginning of its pseudonym is shown instead. The fields of a CONNECT are parts of one
// string, so a session that kept one of them would keep the password in memory.
func (c *conn) mask(field string) (shown, sent string) {
	text := authz.NewToken(field)
	password := authz.NewToken(c.login.connect.Password)
	switch {
	case field == "":
	case text.Equal(password) && !c.login.pair.IsZero():
		sent = c.pseudonym(password)
		return sent[:shownDigits], sent
	case text.Equal(c.login.token), text.Equal(password):
		return text.Fingerprint(), c.pseudonym(text)
	}
	own := strings.Clone(field)
	return own, own
}

// pseudonym returns what stands for a secret towards the broker: hexadecimal digits that are
// the same for the same secret. Without the key the secret cannot be found from them, not
// even by trying weak ones.
func (c *conn) pseudonym(secret authz.Token) string {
	mac := hmac.New(sha256.New, c.policy.clientIDKey)
	mac.Write([]byte(secret.Reveal()))
	digits := hex.EncodeToString(mac.Sum(nil)[:16])
	if c.login.level == 3 {
		return digits[:maxClientID31]
	}
	return digits
}
