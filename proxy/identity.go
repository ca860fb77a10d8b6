package proxy

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// maxClientID31 is the longest client id of MQTT 3.1, in characters (section 3.1).
// Every broker of 3.1.1 must accept letters and digits of that length (section
// 3.1.3.1).
const maxClientID31 = 23

// chooseClientID decides under which client id the session is known, and which one stands
// for it towards the broker: the client's own, or one made up for a client that sent
// none. There are devices whose client id is their token, which must neither be logged
// nor reach the broker.
func (c *conn) chooseClientID() {
	if c.login.connect.ClientID == "" {
		c.login.clientID = "p" + rand.Text()[:maxClientID31-1]
		c.login.sentID = c.login.clientID
		return
	}
	c.login.clientID, c.login.sentID = c.mask(c.login.connect.ClientID)
}

// disguise returns what stands for a field of the CONNECT in logs and towards the
// broker. If the field is the token or the password, these are a fingerprint and the
// stand-in; everything else is a string of its own, since the fields of a CONNECT share
// one copy of the packet, which would keep the password in memory as long as the
// session.
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

// standIn returns what stands for a secret towards the broker: digits that are the same
// for the same secret, and from which nobody without the key can find it, not even by
// trying weak ones.
func (c *conn) pseudonym(secret authz.Token) string {
	mac := hmac.New(sha256.New, c.policy.clientIDKey)
	mac.Write([]byte(secret.Reveal()))
	digits := hex.EncodeToString(mac.Sum(nil)[:16])
	if c.login.level == 3 {
		return digits[:maxClientID31]
	}
	return digits
}
