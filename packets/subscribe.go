package packets

import "iter"

// Subscribe is a SUBSCRIBE or UNSUBSCRIBE packet, sections 3.8 and 3.10 of each
// standard.
type Subscribe struct {
	// Type is SUBSCRIBE or UNSUBSCRIBE.
	Type Type
	// PacketID is never 0.
	PacketID uint16
	// Properties of MQTT 5.0, sections 3.8.2.1 and 3.10.2.1.
	Properties Properties
	// Payload has the encoded topic filters: see All and Add.
	Payload []byte
}

// Parse reads a SUBSCRIBE or UNSUBSCRIBE of the given protocol level which must be all of raw,
// and sets Type. Payload and the properties then point into raw. The error is a
// *MalformedError.
//
// Parse checks that filters are UTF-8 and not empty. It does not check their wildcards; that is
// up to the code that matches filters.
func (s *Subscribe) Parse(raw []byte, level byte) error {
	*s = Subscribe{Type: SUBSCRIBE}
	if len(raw) > 0 && Type(raw[0]>>4) == UNSUBSCRIBE {
		s.Type = UNSUBSCRIBE
	}
	cur, err := open(raw, s.Type, level)
	if err != nil {
		return err
	}
	if s.PacketID, err = cur.packetID(); err != nil {
		return err
	}
	if s.Properties, err = cur.checkedProperties(); err != nil {
		return err
	}
	s.Payload = cur.b[cur.off:]
	return cur.checkFilters()
}

func (c *cursor) checkFilters() error {
	empty, notText := faultSubscribeEmpty, faultSubscribeText
	if c.typ == UNSUBSCRIBE {
		empty, notText = faultUnsubscribeEmpty, faultUnsubscribeText
	}
	if !c.left() {
		return c.refuse(empty)
	}
	for c.left() {
		filter, options, ok := c.filter()
		if !ok {
			return c.short(faultShort)
		}
		f := optionsFault(options, c.level)
		if f == nil && len(filter) == 0 {
			f = faultFilterEmpty
		}
		if f == nil {
			f = textFault(filter, notText)
		}
		if f != nil {
			return c.refuse(f)
		}
	}
	return nil
}

// filter reads a topic filter, and its options in a SUBSCRIBE.
func (c *cursor) filter() (filter []byte, options byte, ok bool) {
	if filter, ok = c.field(); ok && c.typ == SUBSCRIBE {
		options, ok = c.byte()
	}
	return filter, options, ok
}

// optionsFault checks the subscription options of one filter: QoS in bits 0 and 1, retain
// handling in bits 4 and 5, the upper two bits are reserved. All bits but the QoS are reserved
// in MQTT 3.1.1 and unused in 3.1.
func optionsFault(options, level byte) *fault {
	reserved := byte(0xC0)
	switch level {
	case 3:
		reserved, options = 0, options&0x03
	case 4:
		reserved = 0xFC
	}
	switch {
	case options&reserved != 0:
		return faultSubscribeReserved
	case options&0x03 == 0x03, options&0x30 == 0x30:
		return faultSubscribeOptions
	}
	return nil
}

// All yields the topic filters in their order and the subscription options of each, 0 in an
// UNSUBSCRIBE. The lower two bits of the options are the QoS asked for; the other bits are used
// only in MQTT 5.0, section 3.8.3.1.
func (s *Subscribe) All() iter.Seq2[string, byte] {
	return func(yield func(string, byte) bool) {
		cur := cursor{b: s.Payload, typ: s.Type}
		for cur.left() {
			filter, options, ok := cur.filter()
			if !ok || !yield(string(filter), options) {
				return
			}
		}
	}
}

// Add appends a topic filter, with its options if Type is SUBSCRIBE. Type must be set before.
// If Parse has set Payload, Add copies it and does not overwrite the parsed packet.
func (s *Subscribe) Add(filter string, options byte) {
	s.Payload = appendField(s.Payload[:len(s.Payload):len(s.Payload)], filter)
	if s.Type == SUBSCRIBE {
		s.Payload = append(s.Payload, options)
	}
}

// Append appends the packet to dst and returns the result.
func (s *Subscribe) Append(dst []byte, level byte) []byte {
	remaining := 2 + s.Properties.size(level) + len(s.Payload)
	dst = appendVarint(append(dst, s.Type.firstByte()), remaining)
	dst = s.Properties.append(appendUint16(dst, s.PacketID), level)
	return append(dst, s.Payload...)
}

// Suback is a SUBACK or UNSUBACK packet, sections 3.9 and 3.11 of each standard.
type Suback struct {
	// Type is SUBACK or UNSUBACK.
	Type Type
	// PacketID is that of the SUBSCRIBE or UNSUBSCRIBE, never 0.
	PacketID uint16
	// Properties of MQTT 5.0, sections 3.9.2.1 and 3.11.2.1.
	Properties Properties
	// Codes holds one outcome for each topic filter, in their order: the QoS
	// granted, or 0x80 and above for a failure. Below MQTT 5.0, 0x80 is the only
	// failure and an UNSUBACK has no codes.
	Codes []ReasonCode
}

// Parse reads a SUBACK or UNSUBACK of the given protocol level which must be all of raw, and
// sets Type. The properties then point into raw. The error is a *MalformedError.
func (s *Suback) Parse(raw []byte, level byte) error {
	*s = Suback{Type: SUBACK}
	if len(raw) > 0 && Type(raw[0]>>4) == UNSUBACK {
		s.Type = UNSUBACK
	}
	cur, err := open(raw, s.Type, level)
	if err != nil {
		return err
	}
	if s.PacketID, err = cur.packetID(); err != nil {
		return err
	}
	if s.Properties, err = cur.checkedProperties(); err != nil {
		return err
	}
	if !s.hasCodes(level) {
		return cur.done()
	}
	switch {
	case cur.left():
	case s.Type == UNSUBACK:
		return cur.refuse(faultUnsubackEmpty)
	default:
		return cur.refuse(faultSubackEmpty)
	}
	for _, code := range cur.b[cur.off:] {
		s.Codes = append(s.Codes, ReasonCode(code))
	}
	return nil
}

func (s *Suback) hasCodes(level byte) bool { return s.Type == SUBACK || level >= 5 }

// Append appends the packet to dst and returns the result.
func (s *Suback) Append(dst []byte, level byte) []byte {
	codes := s.Codes
	if !s.hasCodes(level) {
		codes = nil
	}
	dst = appendVarint(append(dst, s.Type.firstByte()), 2+s.Properties.size(level)+len(codes))
	dst = s.Properties.append(appendUint16(dst, s.PacketID), level)
	for _, code := range codes {
		dst = append(dst, byte(code))
	}
	return dst
}
