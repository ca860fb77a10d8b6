package packets

// Parse reads a CONNECT, which must be all of raw. Will.Payload and the properties then point
// into raw. The error is a *ProtocolLevelError or a *MalformedError. After an error the content
// of c is undefined.
func (c *Connect) Parse(raw []byte) error {
	*c = Connect{}
	cur, err := open(raw, CONNECT, 0)
	if err != nil {
		return err
	}
	if c.Bridge, err = cur.protocol(); err != nil {
		return err
	}
	c.Level = cur.level
	cur.text = string(raw)
	if err := c.decode(&cur); err != nil {
		return err
	}
	return c.Check()
}

// protocol reads the protocol name and the level. It sets the level in c, and checks the fixed
// header by the rules of that level.
func (c *cursor) protocol() (bridge bool, err error) {
	n, ok := c.uint16()
	if !ok {
		return false, c.short(faultShort)
	}
	if n != uint16(len(nameMQTT)) && n != uint16(len(nameMQIsdp)) {
		return false, &ProtocolLevelError{}
	}
	b, ok := c.take(int(n))
	if !ok {
		return false, c.short(faultShort)
	}
	var name string
	switch string(b) {
	case nameMQTT:
		name = nameMQTT
	case nameMQIsdp:
		name = nameMQIsdp
	default:
		return false, &ProtocolLevelError{}
	}
	level, ok := c.byte()
	if !ok {
		return false, c.short(faultShort)
	}
	bridge, level = level&bridgeBit != 0, level&^bridgeBit
	if known := level == 3 && name == nameMQIsdp || (level == 4 || level == 5) && name == nameMQTT; !known {
		return false, &ProtocolLevelError{Name: name, Level: level}
	}
	head := c.off - (2 + int(n) + 1)
	c.level = level
	return bridge, c.checkHeader(head)
}

// decode reads everything after the level.
func (c *Connect) decode(cur *cursor) error {
	flags, ok := cur.byte()
	if !ok {
		return cur.short(faultShort)
	}
	if f := flagsFault(flags, cur.level); f != nil {
		return cur.refuse(f)
	}
	c.CleanStart = flags&flagCleanStart != 0
	c.HasWill = flags&flagWill != 0
	c.HasUsername = flags&flagUsername != 0
	c.HasPassword = flags&flagPassword != 0
	if c.KeepAlive, ok = cur.uint16(); !ok {
		return cur.short(faultShort)
	}
	var err error
	if c.Properties, err = cur.properties(); err != nil {
		return err
	}
	if c.ClientID, ok = cur.string(); !ok {
		return cur.short(faultNoClientID)
	}
	if c.HasWill {
		c.Will.QoS = flags & flagWillQoS >> 3
		c.Will.Retain = flags&flagWillRetain != 0
		if err := c.Will.decode(cur); err != nil {
			return err
		}
	}
	return c.decodeCredentials(cur)
}

// flagsFault checks the connect flags. MQTT 3.1 section 3.1 does not use the lowest bit and
// ignores the flags of a will that is not present.
func flagsFault(flags, level byte) *fault {
	will := flags&flagWill != 0
	switch {
	case level > 3 && flags&flagReserved != 0:
		return faultReservedFlag
	case level > 3 && !will && flags&flagWillQoS != 0:
		return faultWillQoSNoWill
	case level > 3 && !will && flags&flagWillRetain != 0:
		return faultWillRetainNoWill
	case will && flags&flagWillQoS == flagWillQoS:
		return faultWillQoS
	case level < 5 && flags&(flagUsername|flagPassword) == flagPassword:
		return faultPasswordAlone
	}
	return nil
}

func (w *Will) decode(cur *cursor) (err error) {
	if cur.level == 5 && !cur.left() {
		return cur.refuse(faultNoWill)
	}
	if w.Properties, err = cur.properties(); err != nil {
		return err
	}
	var ok bool
	if w.Topic, ok = cur.string(); !ok {
		return cur.short(faultNoWill)
	}
	if w.Payload, ok = cur.field(); !ok {
		return cur.short(faultNoWill)
	}
	return nil
}

// decodeCredentials reads the last two fields and checks that nothing follows. Extra bytes are
// most often a field whose flag was not set. In MQTT 3.1 the remaining length takes precedence
// over the flags: a packet may end before a user name or password that it has announced, and
// then has none (section 3.1).
func (c *Connect) decodeCredentials(cur *cursor) error {
	var ok bool
	c.HasUsername = c.HasUsername && (c.Level > 3 || cur.left())
	if c.HasUsername {
		if c.Username, ok = cur.string(); !ok {
			return cur.short(faultNoUserName)
		}
	}
	c.HasPassword = c.HasPassword && (c.Level > 3 || cur.left())
	if c.HasPassword {
		if c.Password, ok = cur.string(); !ok {
			return cur.short(faultNoPassword)
		}
	}
	switch {
	case !cur.left():
		return nil
	case !c.HasUsername:
		return cur.refuse(faultHasUserName)
	case !c.HasPassword:
		return cur.refuse(faultHasPassword)
	}
	return cur.refuse(faultConnectEnd)
}
