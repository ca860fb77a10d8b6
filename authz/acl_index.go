package authz

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

// An index answers what a list of rules answers, in the same way, but takes hardly
// longer for a thousand rules than for one. It numbers the topics of all rules in
// their order and keeps, for each level of a topic and each text that may stand
// there, the set of those that have it. The sets of a topic's levels, intersected,
// hold the topics of rules that fit, and the least number among them decides.
//
// An index belongs to an ACL. What differs between sessions is only what levels with
// placeholders stand for, see bind.
type index struct {
	chunks []chunk
	made   []template
	sizes  []patternSize
	// dollars are the first levels that begin with $, those with placeholders not
	// included.
	dollars []string
}

// template is a level with placeholders.
type template struct {
	text  string
	first bool // it begins a topic
	rule  int  // the first rule that has it, from 1 on
}

// patternSize is what the length of a topic with placeholders is made of.
type patternSize struct {
	rule  int
	fixed int   // bytes
	made  []int // templates
}

const (
	// chunkSize is how many topics of rules a chunk holds.
	chunkSize = 1024
	// fewTopics is how many topics of rules are asked one by one: that is as quick
	// and takes less memory.
	fewTopics = 16
)

// set is a set of the topics of a chunk: bit n is the nth.
type set []uint64

func (s set) add(n int) { s[n/64] |= 1 << (n % 64) }

// questions are what a rule may be about or not: publishing with each QoS, retained or
// not, and subscribing with each QoS.
const questions = 3*2 + 3

func publishing(qos byte, retain bool) int { return int(qos)*2 + int(retainBit(retain)) }
func subscribing(qos byte) int             { return 3*2 + int(qos) }

// about reports whether r is about question q.
func (r *rule) about(q int) bool {
	if q >= subscribing(0) {
		return r.actions&subscribe != 0 && r.qos&(1<<(q-subscribing(0))) != 0
	}
	return r.actions&publish != 0 && r.qos&(1<<(q/2)) != 0 && r.retain&(1<<(q%2)) != 0
}

// chunk is some of the topics of rules. A chunk fits into variables of a function.
type chunk struct {
	asked  [questions]set
	deny   set
	levels []position
	whole  position // "eq" with wildcards, which means one filter and no topic
}

// position is one level of the topics of a chunk. The last one has no topics with a
// level there and stands for all that follow.
type position struct {
	texts   []posting // in the order of their texts
	made    []posting // levels with placeholders
	numbers []uint16  // of postings with few topics
	sets    []uint64  // of postings with many
	open    set       // has + here, or # here or before
	hash    set       // has # here or before
	end     set       // selects topics that end before this level
	longer  set       // has a level here; the first one: that does not begin with $
}

// posting is the topics of rules that have a text at a position.
type posting struct {
	text string
	made int32 // the template in place of the text, -1 for none
	at   int32 // where its topics are among the numbers of the position
	n    int32 // how many they are, or -1: they are a set among the sets
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

// bind returns what the templates of x stand for in a session, and the first levels
// of its topics that begin with $. The errors are those of [ACL.Bind].
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

// fits returns whether the first rule that fits denies, and whether there is one.
// topic is a topic name or, if q is about subscribing, a filter.
func fits[T string | []byte](x *index, values []string, q int, topic T) (deny, found bool) {
	for i := range x.chunks {
		c := &x.chunks[i]
		if n, ok := firstIn(c, values, q, topic); ok {
			return c.deny[n/64]&(1<<(n%64)) != 0, true
		}
	}
	return false, false
}

// firstIn returns the number of the first topic of c that fits.
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
			// A topic that allows must have its own # by now.
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

// fit sets s to what fits a level of a topic whatever its text, or, with plus, what
// fits the + of a filter: an allowing topic must select all that it selects, a denying
// one some of it.
func (p *position) fit(s, deny set, plus bool) {
	copy(s, p.open)
	if plus {
		for w := range s {
			s[w] |= deny[w] & p.longer[w]
		}
	}
}

// addText adds to s what has this text at p.
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

// intersect leaves in s what is in t or, unless that is nil, in or as well, and reports
// whether that is anything.
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

// first returns the least number in s.
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
