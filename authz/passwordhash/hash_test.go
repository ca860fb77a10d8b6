package passwordhash

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

const password = "correct horse"

// foreignHashes are hashes of the password that other programs have made: mosquitto_passwd,
// htpasswd, the crypt of the operating system, the argon2 command and Python's hashlib.
var foreignHashes = map[string]string{
	"mosquitto_passwd":            "$7$101$kyDGSVi52yPIrxE8$VZ9El4G6Qo7cB8IuQP0phQ1+ua4Ohz/8gEDVWTvCeZWzZb5MQqDbZcqJhOzDus1TfUCsxm7+5iu4+yBi9EjuJQ==",
	"mosquitto_passwd -H sha512":  "$6$MqO5E5Xrp6uyan55$5jIQpIogjyh9Pl+J99Aq/Y/H5wdzJQGDOo2/J8gCO1xe9CpVXdik4SAfCFEtW/SM3I6GpsOFdACWS7XN7+UnMg==",
	"htpasswd -B":                 "$2y$04$mNh1CP47W4hkLTwhmEg1nOt21Kf0sctMV.KMI7s1Kz3YQw8UqXpCa",
	"crypt, 2a":                   "$2a$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e",
	"crypt, 2b":                   "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e",
	"argon2 -id":                  "$argon2id$v=19$m=4096,t=3,p=2$c29tZXNhbHRzb21lc2FsdA$0vhImacNnpVu8RDXBtG0LHWkJQI88fyR6Q5wR3SV2fI",
	"hashlib, $7$":                "$7$101$AAECAwQFBgcICQoL$lp0Cm29zl+CI/RXyXDKvLye7OxM3OuE6RMzgXTX/f3imS/pFh2Ur7yarLDpKRUKpB0tOj6l0UrRv41zqxmD4tg==",
	"hashlib, $6$":                "$6$AAECAwQFBgcICQoL$5W8GCQ9GLgmhmQvoa8jmRaPnsh82mRigdSv6mQsK0sMIII/WznlQb1g+RWddfoAKTMzBJP1deJU+Rp/1QZ0zZg==",
	"hashlib, goauth":             "PBKDF2$sha512$1000$AAECAwQFBgcICQoLDA0ODw==$Xpx07WjVx4vCIvrmBRj8uOoVVtGqJqtUv2J5bhizSQs7osCteF7W4A61dZDqSIqQjO+dxO6p5FT/Uy7QRBXSXA==",
	"hashlib, goauth with sha256": "PBKDF2$sha256$1000$AAECAwQFBgcICQoLDA0ODw==$yRTMTwbMbo9G0VfjobWqerzuuxe7BETNTErBbKKumGQ=",
	"hashlib, salt as written, which is base64 too": "PBKDF2$sha512$1000$saltsaltsaltsalt$EHLBej+uEvxlmr0QnHnceg1vM6h1wbwSP5XErh3Smiw=",
	"hashlib, salt as written":                      "PBKDF2$sha512$1000$not base64!$f6HOyUYOVW1VdS20J9gtdiN3RWSxMGYDVOujs2KcFj4=",
	"hashlib, goauth in PHC":                        "$pbkdf2-sha512$i=1000,l=64$AAECAwQFBgcICQoLDA0ODw$Xpx07WjVx4vCIvrmBRj8uOoVVtGqJqtUv2J5bhizSQs7osCteF7W4A61dZDqSIqQjO+dxO6p5FT/Uy7QRBXSXA",
	"hashlib, pbkdf2-sha256":                        "$pbkdf2-sha256$4096$cGVwcGVyK3NhbHQ$qmm5z8m8g56CU4h4IW/vmh5RqmrPxBpXATiSlaf7gaA",
	"hashlib, pbkdf2-sha512":                        "$pbkdf2-sha512$4096$cGVwcGVyK3NhbHQ$xUZj1wdgqQBKybaVUHwMsS0MT1SWrWdVYmxLUL4Z2PKCLd34sqhpfZuTJd1LkmhV/ObDSocuU9mQGAp./9LT5Q",
	"hashlib, salt before":                          "$sha256$salt=prefix$cGVwcGVyK3NhbHQ$Q3LABrmROQWILWsl20rAfmxWqlPS9eoR+Q/M5weWVc4",
	"hashlib, salt after":                           "$sha256$salt=suffix$cGVwcGVyK3NhbHQ$PvGRTNK7yvAZTKsE2a0yQUBHluDA/10Xv1Ut0nSHW7c",
	"hashlib, sha512 with salt after":               "$sha512$salt=suffix$cGVwcGVyK3NhbHQ$uTRWOKBMPmpz3ucATsnsDIuv2gDOFcoeqJvD0uSIPJtPKfXLGHgtq/S6rhbBKo0k5v5xi+sa9x0kGwiXHqco3A",
	"hashlib, sha512 without salt":                  "$sha512$salt=prefix$$VraY3v7bWkNbY0r+MyC7rz/c2SC2xQOkRvx7endrKY1HnRumqLYXgI6wv1ec6aldZoNHvKtxSQhayTyyeZUZew",
}

func mustParse(t testing.TB, text string) Hash {
	t.Helper()
	h, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func fits(t testing.TB, h Hash, password string) bool {
	t.Helper()
	good, err := h.Matches(authz.NewToken(password))
	if err != nil {
		t.Fatal(err)
	}
	return good
}

func TestHashesOfOtherPrograms(t *testing.T) {
	for name, text := range foreignHashes {
		t.Run(name, func(t *testing.T) {
			h := mustParse(t, text)
			if !fits(t, h, password) {
				t.Error("the password does not fit")
			}
			for _, wrong := range []string{"", "Correct horse", password + " ", password[1:], password + "\x00", password + "\x00" + password} {
				if fits(t, h, wrong) {
					t.Errorf("%q fits", wrong)
				}
			}
		})
	}
}

// TestMadeHashFits: Parse reads what Make returns, and it matches the password and no other.
func TestMadeHashFits(t *testing.T) {
	first, err := Make(authz.NewToken(password))
	if err != nil {
		t.Fatal(err)
	}
	second, err := Make(authz.NewToken(password))
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Error("two hashes have the same salt")
	}
	if h := mustParse(t, first); !fits(t, h, password) || fits(t, h, "another") {
		t.Error("the hash does not tell passwords apart")
	}
}

// TestBcryptLooksAt72Bytes: only the first 72 bytes count, as in other implementations.
func TestBcryptLooksAt72Bytes(t *testing.T) {
	h := mustParse(t, "$2y$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i") // of 80 x, by crypt
	if !fits(t, h, strings.Repeat("x", 80)) || !fits(t, h, strings.Repeat("x", 72)) || fits(t, h, strings.Repeat("x", 71)) {
		t.Error("long passwords are not those of bcrypt")
	}
}

func TestParseRefuses(t *testing.T) {
	digest := strings.Repeat("A", 86) + "=="
	for text, want := range map[string]string{
		"":                                  "not a hash",
		"hunter2":                           "in plain text",
		"$apr1$fq2vEoCQ$q.Er9B6TN.xvb8qMX6": "MD5 of Apache ($apr1$) is not supported; supported are",
		"{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=": "SHA-1",
		"$5$RkqDRQ06ukgurzv1$ecY1esOPOTU":   "SHA-256 crypt",
		"$y$j9T$abcdefgh$UGYCVcUwcoG0k8":    "yescrypt",
		"$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$Y6cu":                        "argon2i is not supported",
		"$2x$04$abcdefghijklmnopqrstuujydOTSfIH":                             "$2x$",
		"$6$abcdefgh$KQeXafAQAaOoKTevphVU215RvJdgzyfA":                       "SHA-512 crypt of operating systems",
		"$7$2000001$c2FsdA==$" + digest:                                      "2000001 rounds, at most 2000000",
		"$7$0$c2FsdA==$" + digest:                                            "rounds",
		"$7$+10$c2FsdA==$" + digest:                                          "rounds",
		"$7$007$c2FsdA==$" + digest:                                          "rounds",
		"$7$99999999999999999999$c2FsdA==$" + digest:                         "rounds",
		"$7$101$$" + digest:                                                  "salt",
		"$7$101$c2FsdA$" + digest:                                            "salt",
		"$7$101$c2FsdA==$":                                                   "0 bytes",
		"$7$101$c2FsdA==$AAAA":                                               "3 bytes",
		"$7$101$c2FsdA==$" + digest + "\n":                                   "control characters",
		"$7$101$c2FsdA==$" + digest + "$":                                    "$7$ must be followed",
		"$7$101$c2FsdA==$" + strings.Repeat("A", 2000):                       "more than 1024 bytes",
		"$2y$15$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e":       "bcrypt with cost 15, at most 14",
		"$2y$03$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e":       "cost of bcrypt",
		"$2y$+4$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e":       "cost of bcrypt",
		"$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6":        "60 characters",
		"$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6é":       "60 characters",
		"$argon2id$v=19$m=131073,t=3,p=2$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA": "m=131073, at most 131072",
		"$argon2id$v=19$m=4096,t=17,p=2$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA":  "t=17, at most 16",
		"$argon2id$v=19$m=4096,t=1,p=17$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA":  "p=17, at most 16",
		"$argon2id$v=19$m=8,t=1,p=2$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA":      "8 KiB",
		"$argon2id$v=19$t=1,m=64,p=2$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA":     "m=,t=,p=",
		"$argon2id$v=16$m=64,t=1,p=2$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA":     "v=19",
		"PBKDF2$sha1$1000$c2FsdA==$" + digest:                                "sha512 or sha256",
		"PBKDF2$sha512$2000001$c2FsdA==$" + digest:                           "at most 2000000",
		"PBKDF2$sha512$1000$$" + digest:                                      "salt",
		"$pbkdf2-sha512$i=1000,l=32$c2FsdA$" + digest[:86]:                   "length l",
	} {
		h, err := Parse(text)
		if err == nil || h != (Hash{}) {
			t.Errorf("%.30q is accepted", text)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want %q", text, err, want)
		}
		if len(text) > 20 && strings.Contains(err.Error(), text[len(text)-20:]) {
			t.Errorf("the error repeats the hash: %v", err)
		}
	}
}

func TestHashPrintsNothing(t *testing.T) {
	for name, text := range foreignHashes {
		h := mustParse(t, text)
		end := strings.TrimRight(text[len(text)-16:], "=")
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			for _, shown := range []string{fmt.Sprintf(verb, h), fmt.Sprintf(verb, struct{ h Hash }{h})} {
				if strings.Contains(shown, end) || strings.Contains(shown, fmt.Sprintf("%x", end)) {
					t.Errorf("%s: %s prints the hash", name, verb)
				}
			}
		}
	}
}

func TestZeroHashFitsNothing(t *testing.T) {
	if fits(t, Hash{}, "") || fits(t, Hash{}, "x") {
		t.Error("a password fits the zero Hash")
	}
}

// TestArgonParameters: every hash within the bounds is computed with the parameters that it
// names.
func TestArgonParameters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lanes := rapid.IntRange(1, 4).Draw(t, "p")
		memory := rapid.IntRange(8*lanes, 256).Draw(t, "m")
		passes := rapid.IntRange(1, 3).Draw(t, "t")
		salt := rapid.SliceOfN(rapid.Byte(), 1, 32).Draw(t, "salt")
		secret := rapid.SliceOfN(rapid.ByteRange(1, 255), 0, 80).Draw(t, "password")
		size := rapid.IntRange(minDigest, maxDigest).Draw(t, "size")
		digest := argon2.IDKey(secret, salt, uint32(passes), uint32(memory), uint8(lanes), uint32(size))
		h, err := Parse(fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", memory, passes, lanes, rawBase64(salt), rawBase64(digest)))
		if err != nil {
			t.Fatal(err)
		}
		if good, err := h.Matches(authz.NewToken(string(secret))); !good || err != nil {
			t.Fatal("the password does not fit", err)
		}
		if good, _ := h.Matches(authz.NewToken(string(secret) + "x")); good {
			t.Fatal("another password fits")
		}
	})
}

// FuzzParse: no text causes a panic, exceeds the bounds on cost or appears in an error, and a text
// that was accepted is accepted again.
func FuzzParse(f *testing.F) {
	for _, text := range foreignHashes {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := Parse(text)
		if err != nil {
			if len(text) > 24 && strings.Contains(err.Error(), text[len(text)-24:]) {
				t.Error("the error repeats the end of the hash")
			}
			return
		}
		if c := h.scheme.cost(); c.memory > 128<<20 || c.processors > 16 || c.processors < 1 {
			t.Errorf("a check costs %+v", c)
		}
		if p, ok := h.scheme.(*pbkdf2Hash); ok && (p.rounds < 1 || p.rounds > maxRounds || len(p.digest) > maxDigest || len(p.salts) == 0) {
			t.Errorf("%d rounds, %d bytes, %d salts", p.rounds, len(p.digest), len(p.salts))
		}
		if b, ok := h.scheme.(*bcryptHash); ok && len(b.text) != bcryptLength {
			t.Error("not a hash of bcrypt")
		}
	})
}
