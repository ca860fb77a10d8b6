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

// mask returns what stands for a field of the CONNECT in logs and towards the broker. If the
// field is the token or the password, that is its fingerprint and its pseudonym, otherwise a
// copy of the field. The fields of a CONNECT are parts of one string, so a session that
// kept one of them would keep the password in memory.
func (c *conn) mask(field string) (shown, sent string) {
	text := authz.NewToken(field)
	for _, secret := range []authz.Token{c.login.token, authz.NewToken(c.login.connect.Password)} {
		if field != "" && text.Equal(secret) {
			return secret.Fingerprint(), c.pseudonym(secret)
		}
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
