package packets

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// statement is one normative statement of section 3.1, with its consequence for a reader of a
// CONNECT.
type statement struct {
	id string
	// breaks is refused with rule, or with id if rule is empty. To a reader, some breaks look
	// like a violation of another statement.
	breaks []byte
	rule   string
	// fits is like breaks but follows the statement.
	fits []byte
	// undetectable is the reason why a reader cannot detect a violation of the statement in a
	// CONNECT.
	undetectable string
}

const (
	ofSession  = "what the broker does with the session"
	ofWill     = "what the broker does with the will"
	ofSending  = "what either side sends after the CONNECT"
	ofAnswer   = "the answer, which the caller gives"
	permission = "allows, and forbids nothing"
)

func checkStatements(t *testing.T, level byte, last map[string]int, statements []statement) {
	got := map[string]int{}
	for _, s := range statements {
		t.Run(s.id, func(t *testing.T) { checkStatement(t, level, s) })
		section := s.id[:strings.LastIndex(s.id, "-")]
		got[section]++
		if want := fmt.Sprintf("%s-%d", section, got[section]); s.id != want {
			t.Errorf("%s stands where %s should", s.id, want)
		}
	}
	for section, n := range last {
		if got[section] != n {
			t.Errorf("%s has %d statements, want %d", section, got[section], n)
		}
	}
}

func checkStatement(t *testing.T, level byte, s statement) {
	if (s.breaks == nil) == (s.undetectable == "") {
		t.Fatal("needs either a packet that breaks it or a reason why there is none")
	}
	if s.fits != nil {
		c := mustConnect(t, s.fits)
		if back := c.Append(nil); string(back) != string(s.fits) {
			t.Errorf("Append wrote\n%x, want\n%x", back, s.fits)
		}
		if c.Level != level {
			t.Errorf("level is %d, want %d", c.Level, level)
		}
	}
	if s.breaks == nil {
		return
	}
	_, err := parseConnect(s.breaks)
	switch s.rule {
	case "ErrNotConnect":
		if !errors.Is(err, ErrNotConnect) {
			t.Errorf("error is %v, want ErrNotConnect", err)
		}
		return
	case "ProtocolLevelError":
		if unknown := new(ProtocolLevelError); !errors.As(err, &unknown) {
			t.Errorf("error is %v, want a ProtocolLevelError", err)
		}
		return
	case "":
		s.rule = s.id
	}
	wantRule(t, err, s.rule)
	malformed := new(MalformedError)
	errors.As(err, &malformed)
	if malformed.Level != level || malformed.Type != CONNECT {
		t.Errorf("refused as a %v of level %d, want a CONNECT of level %d", malformed.Type, malformed.Level, level)
	}
	if malformed.Code != MalformedPacket && malformed.Code != ProtocolError {
		t.Errorf("code is %v", malformed.Code)
	}
}

func TestStatements311(t *testing.T) {
	const id = "\x00\x02id"
	plain := connect(4, 0x02, id)
	will := connect(4, 0x06, id, field("t"), field("m"))
	user := connect(4, 0x82, id, field("u"))
	both := connect(4, 0xC2, id, field("u"), field("p"))
	longest := field("0123456789abcdefghijklm")
	checkStatements(t, 4, map[string]int{"MQTT-3.1.0": 2, "MQTT-3.1.2": 24, "MQTT-3.1.3": 11, "MQTT-3.1.4": 5}, []statement{
		{id: "MQTT-3.1.0-1", breaks: packet(0xC0), rule: "ErrNotConnect", fits: plain},
		{id: "MQTT-3.1.0-2", undetectable: ofSending},

		{id: "MQTT-3.1.2-1", breaks: packet(0x10, "\x00\x04MQTt\x04\x02\x00\x3C", id), rule: "ProtocolLevelError", fits: plain},
		{id: "MQTT-3.1.2-2", breaks: connect(6, 0x02, id), rule: "ProtocolLevelError", fits: plain},
		{id: "MQTT-3.1.2-3", breaks: connect(4, 0x03, id), fits: plain},
		{id: "MQTT-3.1.2-4", undetectable: ofSession, fits: connect(4, 0x00, id)},
		{id: "MQTT-3.1.2-5", undetectable: ofSession},
		{id: "MQTT-3.1.2-6", undetectable: ofSession, fits: plain},
		{id: "MQTT-3.1.2-7", undetectable: ofSession},
		{id: "MQTT-3.1.2-8", undetectable: ofWill, fits: will},
		{id: "MQTT-3.1.2-9", breaks: connect(4, 0x06, id, field("t")), fits: will},
		{id: "MQTT-3.1.2-10", undetectable: ofWill},
		{id: "MQTT-3.1.2-11", breaks: connect(4, 0x02, id, field("t"), field("m")), rule: "MQTT-3.1.2-18", fits: plain},
		{id: "MQTT-3.1.2-12", undetectable: ofWill},
		{id: "MQTT-3.1.2-13", breaks: connect(4, 0x0A, id), fits: connect(4, 0x0E, id, field("t"), field("m"))},
		{id: "MQTT-3.1.2-14", breaks: connect(4, 0x1E, id, field("t"), field("m")), fits: connect(4, 0x16, id, field("t"), field("m"))},
		{id: "MQTT-3.1.2-15", breaks: connect(4, 0x22, id), fits: connect(4, 0x26, id, field("t"), field("m"))},
		{id: "MQTT-3.1.2-16", undetectable: ofWill},
		{id: "MQTT-3.1.2-17", undetectable: ofWill},
		{id: "MQTT-3.1.2-18", breaks: connect(4, 0x02, id, field("u")), fits: user},
		{id: "MQTT-3.1.2-19", breaks: connect(4, 0x82, id), fits: connect(4, 0x82, id, field(""))},
		{id: "MQTT-3.1.2-20", breaks: connect(4, 0x82, id, field("u"), field("p")), fits: both},
		{id: "MQTT-3.1.2-21", breaks: connect(4, 0xC2, id, field("u")), fits: connect(4, 0xC2, id, field("u"), field(""))},
		{id: "MQTT-3.1.2-22", breaks: connect(4, 0x42, id, field("p")), fits: both},
		{id: "MQTT-3.1.2-23", undetectable: ofSending},
		{id: "MQTT-3.1.2-24", undetectable: ofSending},

		// Two swapped fields are detected only if they differ in type.
		{id: "MQTT-3.1.3-1", breaks: connect(4, 0x06, id, field("\xFF"), field("t")), rule: "MQTT-3.1.3-10",
			fits: connect(4, 0x06, id, field("t"), field("\xFF"))},
		{id: "MQTT-3.1.3-2", undetectable: ofSession},
		{id: "MQTT-3.1.3-3", breaks: connect(4, 0x02), fits: connect(4, 0x02, field(""))},
		{id: "MQTT-3.1.3-4", breaks: connect(4, 0x02, field("i\xFF")), fits: connect(4, 0x02, field("ié"))},
		{id: "MQTT-3.1.3-5", undetectable: permission, fits: connect(4, 0x02, longest)},
		{id: "MQTT-3.1.3-6", undetectable: ofSession, fits: connect(4, 0x02, field(""))},
		{id: "MQTT-3.1.3-7", undetectable: "seen by MissingClientID, for the answer of 3.1.3-8", fits: connect(4, 0x00, field(""))},
		{id: "MQTT-3.1.3-8", undetectable: ofAnswer, fits: connect(4, 0x00, field(""))},
		{id: "MQTT-3.1.3-9", undetectable: ofAnswer},
		{id: "MQTT-3.1.3-10", breaks: connect(4, 0x06, id, field("\xC0\x80"), field("")), fits: connect(4, 0x06, id, field("é"), field(""))},
		{id: "MQTT-3.1.3-11", breaks: connect(4, 0x82, id, field("\xED\xA0\x80")), fits: connect(4, 0x82, id, field("\xED\x9F\xBF"))},

		{id: "MQTT-3.1.4-1", breaks: connect(4, 0xC2, id, field("u"), field("p"), "x"), fits: both},
		{id: "MQTT-3.1.4-2", undetectable: ofSession},
		{id: "MQTT-3.1.4-3", undetectable: ofSession},
		{id: "MQTT-3.1.4-4", undetectable: ofAnswer},
		{id: "MQTT-3.1.4-5", undetectable: ofSending},
	})
}

func TestStatements5(t *testing.T) {
	const id = "\x00\x02id"
	none := props()
	plain := connect(5, 0x02, none, id)
	will := connect(5, 0x06, none, id, none, field("t"), field("m"))
	user := connect(5, 0x82, none, id, field("u"))
	both := connect(5, 0xC2, none, id, field("u"), field("p"))
	longest := field("nopqrstuvwxyzABCDEFGHIJ")
	ordered := props(pairOf("b", "1"), pairOf("a", "2"), pairOf("b", "0"))
	checkStatements(t, 5, map[string]int{"MQTT-3.1.0": 2, "MQTT-3.1.2": 30, "MQTT-3.1.3": 12, "MQTT-3.1.4": 6}, []statement{
		{id: "MQTT-3.1.0-1", breaks: packet(0xF0, "\x18\x00"), rule: "ErrNotConnect", fits: plain},
		{id: "MQTT-3.1.0-2", undetectable: ofSending},

		{id: "MQTT-3.1.2-1", breaks: packet(0x10, "\x00\x04mqtt\x05\x02\x00\x3C", none, id), rule: "ProtocolLevelError", fits: plain},
		{id: "MQTT-3.1.2-2", breaks: connect(6, 0x02, none, id), rule: "ProtocolLevelError", fits: plain},
		{id: "MQTT-3.1.2-3", breaks: connect(5, 0x03, none, id), fits: plain},
		{id: "MQTT-3.1.2-4", undetectable: ofSession, fits: plain},
		{id: "MQTT-3.1.2-5", undetectable: ofSession, fits: connect(5, 0x00, none, id)},
		{id: "MQTT-3.1.2-6", undetectable: ofSession, fits: connect(5, 0x00, none, field(""))},
		{id: "MQTT-3.1.2-7", undetectable: ofWill, fits: will},
		{id: "MQTT-3.1.2-8", undetectable: ofWill},
		{id: "MQTT-3.1.2-9", breaks: connect(5, 0x06, none, id), fits: will},
		{id: "MQTT-3.1.2-10", undetectable: ofWill},
		{id: "MQTT-3.1.2-11", breaks: connect(5, 0x12, none, id), fits: connect(5, 0x16, none, id, none, field("t"), field("m"))},
		{id: "MQTT-3.1.2-12", breaks: connect(5, 0x1E, none, id, none, field("t"), field("m")),
			fits: connect(5, 0x16, none, id, none, field("t"), field("m"))},
		{id: "MQTT-3.1.2-13", breaks: connect(5, 0x22, none, id), fits: connect(5, 0x26, none, id, none, field("t"), field("m"))},
		{id: "MQTT-3.1.2-14", undetectable: ofWill},
		{id: "MQTT-3.1.2-15", undetectable: ofWill},
		{id: "MQTT-3.1.2-16", breaks: connect(5, 0x02, none, id, field("u")), fits: user},
		{id: "MQTT-3.1.2-17", breaks: connect(5, 0x82, none, id, "\x00"), fits: connect(5, 0x82, none, id, field(""))},
		{id: "MQTT-3.1.2-18", breaks: connect(5, 0x82, none, id, field("u"), field("p")), fits: both},
		{id: "MQTT-3.1.2-19", breaks: connect(5, 0x42, none, id, "\x00\x02p"), fits: connect(5, 0x42, none, id, field("p"))},
		{id: "MQTT-3.1.2-20", undetectable: ofSending},
		{id: "MQTT-3.1.2-21", undetectable: ofSending},
		{id: "MQTT-3.1.2-22", undetectable: ofSending},
		{id: "MQTT-3.1.2-23", undetectable: ofSession},
		{id: "MQTT-3.1.2-24", undetectable: ofSending},
		{id: "MQTT-3.1.2-25", undetectable: ofSending},
		{id: "MQTT-3.1.2-26", undetectable: ofSending},
		{id: "MQTT-3.1.2-27", undetectable: ofSending},
		{id: "MQTT-3.1.2-28", undetectable: ofAnswer, fits: connect(5, 0x02, props(num(0x19, 0)), id)},
		{id: "MQTT-3.1.2-29", undetectable: ofSending, fits: connect(5, 0x02, props(num(0x17, 0)), id)},
		{id: "MQTT-3.1.2-30", undetectable: ofSending, fits: connect(5, 0x02, props(text(AuthenticationMethod, "m")), id)},

		{id: "MQTT-3.1.3-1", breaks: connect(5, 0x06, none, id, field("t"), none, field("m")), rule: "MQTT-3.1.2-9", fits: will},
		{id: "MQTT-3.1.3-2", undetectable: ofSession},
		{id: "MQTT-3.1.3-3", breaks: connect(5, 0x02, none), fits: connect(5, 0x02, none, field(""))},
		{id: "MQTT-3.1.3-4", breaks: connect(5, 0x02, none, field("\xF4\x90\x80\x80")), fits: connect(5, 0x02, none, field("\xF4\x8F\xBF\xBF"))},
		{id: "MQTT-3.1.3-5", undetectable: permission, fits: connect(5, 0x02, none, longest)},
		{id: "MQTT-3.1.3-6", undetectable: ofSession, fits: connect(5, 0x02, none, field(""))},
		{id: "MQTT-3.1.3-7", undetectable: ofAnswer},
		{id: "MQTT-3.1.3-8", undetectable: ofAnswer},
		{id: "MQTT-3.1.3-9", undetectable: ofWill, fits: connect(5, 0x06, none, id, props(num(0x18, 0, 0, 0, 9)), field("t"), field("m"))},
		{id: "MQTT-3.1.3-10", undetectable: ofWill, fits: connect(5, 0x06, none, id, ordered, field("t"), field("m"))},
		{id: "MQTT-3.1.3-11", breaks: connect(5, 0x06, none, id, none, field("t\x80"), field("m")), fits: will},
		{id: "MQTT-3.1.3-12", breaks: connect(5, 0x82, none, id, field("\xED\xBF\xBF")), fits: connect(5, 0x82, none, id, field("\xEE\x80\x80"))},

		{id: "MQTT-3.1.4-1", breaks: connect(5, 0xC2, none, id, field("u"), field("p"), "\x00\x00"), fits: both},
		{id: "MQTT-3.1.4-2", undetectable: ofAnswer},
		{id: "MQTT-3.1.4-3", undetectable: ofSession},
		{id: "MQTT-3.1.4-4", undetectable: ofSession},
		{id: "MQTT-3.1.4-5", undetectable: ofAnswer},
		{id: "MQTT-3.1.4-6", undetectable: ofSending},
	})
}
