package packets

import (
	"bytes"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestPublish(t *testing.T) {
	alias := Properties(num(0x23, 0, 1))
	for _, test := range []struct {
		level byte
		raw   []byte
		head  int
		want  Publish
	}{
		{4, packet(0x30, field("a/b"), "25"), 7, Publish{Topic: []byte("a/b"), Payload: []byte("25")}},
		{3, packet(0x33, field("t"), "\x00\x09"), 7, Publish{QoS: 1, Retain: true, Topic: []byte("t"), PacketID: 9, Payload: []byte{}}},
		{4, packet(0x3C, field("t"), "\x01\x00", strings.Repeat("p", 300)), 8,
			Publish{Dup: true, QoS: 2, Topic: []byte("t"), PacketID: 256, Payload: bytes.Repeat([]byte("p"), 300)}},
		{5, packet(0x30, field("t"), props(), "p"), 6, Publish{Topic: []byte("t"), Payload: []byte("p")}},
		{5, packet(0x32, field(""), "\x00\x01", props(string(alias)), "p"), 10,
			Publish{QoS: 1, Topic: []byte{}, PacketID: 1, Properties: alias, Payload: []byte("p")}},
	} {
		var got Publish
		head, err := got.Parse(append(test.raw[:len(test.raw):len(test.raw)], "next"...), test.level)
		if err != nil {
			t.Fatalf("%x: %v", test.raw, err)
		}
		if head != test.head || !reflect.DeepEqual(got, test.want) {
			t.Errorf("head of %d bytes, %+v; want %d, %+v", head, got, test.head, test.want)
		}
		if back := test.want.Append([]byte("x"), test.level); !bytes.Equal(back[1:], test.raw) {
			t.Errorf("Append wrote %x, want %x", back[1:], test.raw)
		}
		if back := got.AppendHeader(nil, test.level, len(got.Payload)); !bytes.Equal(back, test.raw[:head]) {
			t.Errorf("AppendHeader wrote %x, want %x", back, test.raw[:head])
		}
		checkPublishParts(t, test.raw, test.level, head)
	}
}

// checkPublishParts parses every prefix of raw: the header can be parsed as soon as it is
// complete, and not before.
func checkPublishParts(t *testing.T, raw []byte, level byte, head int) {
	t.Helper()
	for n := range raw {
		var part Publish
		got, err := part.Parse(raw[:n], level)
		switch {
		case n < head && err != io.ErrUnexpectedEOF:
			t.Errorf("%d of %d header bytes: %v", n, head, err)
		case n >= head && (err != nil || got != head || len(part.Payload) != n-head):
			t.Errorf("%d bytes: head of %d, payload of %d, %v", n, got, len(part.Payload), err)
		}
	}
}

func TestPublishRefused(t *testing.T) {
	for _, test := range []struct {
		name  string
		rule  string
		level byte
		raw   []byte
	}{
		{"QoS 3", "MQTT-3.3.1-4", 4, packet(0x36, field("t"), "\x00\x01")},
		{"DUP with QoS 0", "MQTT-3.3.1-2", 5, packet(0x38, field("t"), props())},
		{"wildcard", "MQTT-3.3.2-2", 4, packet(0x30, field("a/+"))},
		{"wildcard", "MQTT-3.3.2-2", 5, packet(0x30, field("#"), props())},
		{"empty topic", "MQTT-4.7.3-1", 4, packet(0x30, field(""))},
		{"empty topic without alias", "section 3.3.2.1", 5, packet(0x30, field(""), props())},
		{"topic not UTF-8", "MQTT-3.3.2-1", 4, packet(0x30, field("\xFF"))},
		{"topic with U+0000", "MQTT-1.5.3-2", 4, packet(0x30, field("\x00"))},
		{"topic past the end", "MQTT-3.3.2-1", 4, packet(0x30, "\x00\x09topic")},
		{"packet identifier 0", "MQTT-2.2.1-3", 5, packet(0x32, field("t"), "\x00\x00", props())},
		{"no packet identifier", "section 2.2.3", 4, packet(0x32, field("t"))},
		{"topic alias 0", "MQTT-3.3.2-8", 5, packet(0x30, field("t"), props(num(0x23, 0, 0)))},
		{"CONNECT property", "section 2.2.2.2", 5, packet(0x30, field("t"), props(num(0x11, 0, 0, 0, 0)))},
		{"no property length", "MQTT-2.2.2-1", 5, packet(0x30, field("t"))},
		{"property length past the end", "MQTT-2.2.2-1", 5, packet(0x30, field("t"), "\x01")},
		{"remaining length", "section 2.2.3", 4, []byte("\x30\xFF\xFF\xFF\xFF\x01")},
		{"other packet", "section 2.2.1", 4, packet(0x40, "\x00\x01")},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := new(Publish).Parse(test.raw, test.level)
			wantRule(t, err, test.rule)
		})
	}
}
