package certs

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"time"
)

const (
	// minTicketSecret is the length of the shortest ticket secret, in bytes.
	minTicketSecret = 32
	// ticketEpoch is how long a key encrypts new tickets. A key decrypts for one epoch before
	// and one epoch after that, so the clocks of servers may differ by as much.
	ticketEpoch = 12 * time.Hour
)

func parseTicketSecret(content []byte) ([]byte, error) {
	secret := bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	if len(secret) < minTicketSecret {
		return nil, fmt.Errorf("a secret of %d bytes is too short for session tickets; use at least %d random bytes (openssl rand -hex 32)", len(secret), minTicketSecret)
	}
	return secret, nil
}

// epochOf returns the number of the epoch that t is in.
func epochOf(t time.Time) int64 { return t.Unix() / int64(ticketEpoch/time.Second) }

// ticketKeys returns the keys of an epoch, of the one before and of the one after. The first of
// them encrypts.
//
// The keys also depend on the authorities that the listener trusts. A ticket stands for a
// client certificate that was verified when the ticket was made, so a server that would not
// have accepted that certificate must not accept the ticket.
func (id *identity) ticketKeys(auth tls.ClientAuthType, epoch int64) ([][32]byte, error) {
	var keys [][32]byte
	for _, e := range []int64{epoch, epoch - 1, epoch + 1} {
		info := fmt.Sprintf("mqtt-auth-proxy session ticket 1 epoch %d client auth %d authorities %x", e, auth, id.version.ClientCA)
		key, err := hkdf.Key(sha256.New, id.ticketSecret, nil, info, 32)
		if err != nil {
			return nil, fmt.Errorf("derive session ticket keys: %w", err)
		}
		keys = append(keys, [32]byte(key))
	}
	return keys, nil
}
