package authz

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

// An index gives the same answers as a list of rules, but needs hardly more time for a thousand
// rules than for one. It numbers the topics of all rules in order. For each level of a topic
// and each text at that level it stores the set of topics that match. The intersection of the
// sets of all levels is the set of topics that match, and the lowest number in it decides.
//
// An index belongs to an ACL and is shared by its sessions. The only difference between
// sessions are the values of levels with placeholders, see bind.
type index struct {
	chunks []chunk
	made   []template
	sizes  []patternSize
	// dollars are the first levels that begin with $, without those that have placeholders.
	dollars []string
}

// template is a level with placeholders.
type template struct {
	text  string
	first bool // it begins a topic
	rule  int  // the first rule that has it, counted from 1
}

// patternSize describes the length of a topic with placeholders.
type patternSize struct {
	rule  int
	fixed int   // bytes
	made  []int // templates
}

const (
	// chunkSize is the number of topics in a chunk.
	chunkSize = 1024
	// fewTopics is the number of topics up to which rules are matched one by one, which is as
	// fast and needs less memory.
	fewTopics = 16
)

// set is a set of the topics of a chunk: bit n stands for the nth topic.
type set []uint64

func (s set) add(n int) { s[n/64] |= 1 << (n % 64) }

// questions is the number of actions that a rule may apply to: publishing with each QoS,
// retained or not, and subscribing with each QoS.
const questions = 3*2 + 3

func publishing(qos byte, retain bool) int { return int(qos)*2 + int(retainBit(retain)) }
func subscribing(qos byte) int             { return 3*2 + int(qos) }

// about reports whether r applies to question q.
func (r *rule) about(q int) bool {
	if q >= subscribing(0) {
		return r.actions&subscribe != 0 && r.qos&(1<<(q-subscribing(0))) != 0
	}
	return r.actions&publish != 0 && r.qos&(1<<(q/2)) != 0 && r.retain&(1<<(q%2)) != 0
}

// chunk has some of the topics of rules. Its sets have a fixed size and need no allocation.
type chunk struct {
	asked  [questions]set
	deny   set
	levels []position
	whole  position // topics with "eq" and wildcards, which match one filter and no topic
}

// position is one level of the topics of a chunk. The last position has no topics with a level
// there and stands for all levels that follow.
type position struct {
	texts   []posting // sorted by text
	made    []posting // levels with placeholders
	numbers []uint16  // of postings with few topics
	sets    []uint64  // of postings with many topics
	open    set       // topics with + here, or # here or before
	hash    set       // topics with # here or before
	end     set       // topics that end before this level
	longer  set       // topics that have this level; at the first position those that do not begin with $
}

// posting is the set of topics that have a text at a position.
type posting struct {
	text string
	made int32 // the template that replaces the text, or -1
	at   int32 // where its topics begin in numbers or sets
	n    int32 // how many topics it has, or -1 if they are a set in sets
}

// add adds the topics of a posting to s.
func (p *position) add(e *posting, s set) {
	if e.n < 0 {
		for i, word := range p.sets[e.at : int(e.at)+len(s)] {
			s[i] |= word
		}
		return
	}
	for _, n := range p.numbers[e.at : e.at+e.n] {
		s.add(int(n))
	}
}

// bind returns the values of the templates of x in a session, and the first levels of its
// topics that begin with $. The errors are those of [ACL.Bind].
func (x *index) bind(v *ACLValues) (values, dollars []string, err error) {
	values, dollars = make([]string, len(x.made)), x.dollars
	for i, t := range x.made {
		if values[i], err = t.bind(v); err != nil {
			return nil, nil, fmt.Errorf("topic rule %d: %w", t.rule, err)
		}
		if t.first && values[i][0] == '$' {
			dollars = append(slices.Clip(dollars), values[i])
		}
	}
	for _, s := range x.sizes {
		size := s.fixed
		for _, made := range s.made {
			size += len(values[made])
		}
		if size > maxTopic {
			return nil, nil, fmt.Errorf("topic rule %d: with its values: %w", s.rule, errNotFilter)
		}
	}
	return values, dollars, nil
}

func (t *template) bind(v *ACLValues) (string, error) {
	text, err := aclPlaceholders.Expand(t.text, v.value)
	switch {
	case err != nil:
		return "", err
	case !utf8.ValidString(text):
		return "", fmt.Errorf("with its values: %w", errNotFilter)
	case !t.first || text[0] != '$':
	case strings.HasPrefix(t.text, "${"):
		return "", errDollarValue
	case isShare(text):
		return "", fmt.Errorf("with its values: %w", errShared)
	}
	return text, nil
}

// fits returns whether the first rule that matches denies, and whether there is one. topic is a
// topic name or, if q is a subscription, a filter.
func fits[T string | []byte](x *index, values []string, q int, topic T) (deny, found bool) {
	for i := range x.chunks {
		c := &x.chunks[i]
		if n, ok := firstIn(c, values, q, topic); ok {
			return c.deny[n/64]&(1<<(n%64)) != 0, true
		}
	}
	return false, false
}

// firstIn returns the number of the first topic of c that matches.
func firstIn[T string | []byte](c *chunk, values []string, q int, topic T) (n int, found bool) {
	var aliveBits, fitBits [chunkSize / 64]uint64
	alive, fit := set(aliveBits[:len(c.deny)]), set(fitBits[:len(c.deny)])
	copy(alive, c.asked[q])
	filter, last := q >= subscribing(0), len(c.levels)-1
	rest, more := topic, true
	if filter {
		rest = T(expanded(string(topic)))
	}
	for i := 0; more && i <= last; i++ {
		var level T
		level, rest, more = cutLevel(rest)
		if filter && string(level) == "#" {
			// The topic of an allowing rule must have its own # at or before this level.
			alive.intersect(c.levels[i].hash, c.deny)
			break
		}
		c.levels[i].fit(fit, c.deny, filter && string(level) == "+")
		if i == 0 && len(level) > 0 && level[0] == '$' {
			clear(fit)
		}
		addText(&c.levels[i], values, level, fit)
		if !alive.intersect(fit, nil) {
			break
		}
		if !more {
			alive.intersect(c.levels[min(i+1, last)].end, nil)
		}
	}
	if filter && len(c.whole.texts) > 0 {
		clear(fit)
		addText(&c.whole, nil, topic, fit)
		alive.join(fit, c.asked[q])
	}
	return alive.first()
}

// fit sets s to the topics that match a level whatever its text. If plus is true, the level is
// the + of a filter: an allowing topic must then select everything that the filter selects, and
// a denying one a part of it.
func (p *position) fit(s, deny set, plus bool) {
	copy(s, p.open)
	if plus {
		for w := range s {
			s[w] |= deny[w] & p.longer[w]
		}
	}
}

// addText adds to s the topics that have this text at p.
func addText[T string | []byte](p *position, values []string, text T, s set) {
	low, high := 0, len(p.texts)
	for low < high {
		if middle := int(uint(low+high) / 2); p.texts[middle].text < string(text) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low < len(p.texts) && p.texts[low].text == string(text) {
		p.add(&p.texts[low], s)
	}
	for i := range p.made {
		if e := &p.made[i]; values[e.made] == string(text) {
			p.add(e, s)
		}
	}
}

// intersect removes from s what is neither in t nor in or, which may be nil. It reports whether
// anything is left.
func (s set) intersect(t, or set) bool {
	var left uint64
	for w := range s {
		both := t[w]
		if or != nil {
			both |= or[w]
		}
		s[w] &= both
		left |= s[w]
	}
	return left != 0
}

// join adds to s what is in both t and u.
func (s set) join(t, u set) {
	for w := range s {
		s[w] |= t[w] & u[w]
	}
}

// first returns the lowest number in s.
func (s set) first() (int, bool) {
	for w, word := range s {
		if word != 0 {
			return w*64 + bits.TrailingZeros64(word), true
		}
	}
	return 0, false
}

func cutLevel[T string | []byte](topic T) (level, rest T, more bool) {
	level = firstLevel(topic)
	if len(level) == len(topic) {
		return level, rest, false
	}
	return level, topic[len(level)+1:], true
}
