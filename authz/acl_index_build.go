package authz

import (
	"slices"
	"strings"
)

// newIndex returns the index of rules.
func newIndex(rules []rule) *index {
	x := &index{}
	b := indexBuilder{index: x, templates: make(map[template]int), dollars: make(map[string]bool)}
	for i := range rules {
		for _, p := range rules[i].topics {
			b.add(&rules[i], i+1, p)
		}
	}
	b.flush()
	return x
}

// indexBuilder builds an index one chunk at a time.
type indexBuilder struct {
	*index
	templates map[template]int // keyed by templates without their rule
	dollars   map[string]bool

	rules   []*rule
	topics  []levels
	longest int // levels
}

// levels is the topic of a rule, split into its levels.
type levels struct {
	texts []string
	made  []int // the template of each level, or -1
	hash  bool  // a # follows
	whole string
}

// dollar reports whether the topic begins with $, independent of the values of placeholders.
func (l *levels) dollar() bool {
	return strings.HasPrefix(l.texts[0], "$") && (l.made[0] < 0 || !strings.HasPrefix(l.texts[0], "${"))
}

func (b *indexBuilder) add(r *rule, number int, p pattern) {
	var l levels
	if p.literal && strings.ContainsAny(p.text, wildcards) {
		l.whole = p.text
		b.dollar(firstLevel(p.text))
	} else {
		l = b.takeApart(p, number)
	}
	b.rules, b.topics = append(b.rules, r), append(b.topics, l)
	b.longest = max(b.longest, len(l.texts))
	if len(b.topics) == chunkSize {
		b.flush()
	}
}

func (b *indexBuilder) dollar(level string) {
	if strings.HasPrefix(level, "$") && !b.dollars[level] {
		b.dollars[level] = true
		b.index.dollars = append(b.index.dollars, level)
	}
}

func (b *indexBuilder) takeApart(p pattern, number int) (l levels) {
	unbound := p.unbound()
	text := p.text
	if !unbound {
		text = expanded(text)
	}
	size := patternSize{rule: number, fixed: len(text)}
	for i, level := range splitLevels(text, unbound) {
		if level == "#" && !p.literal {
			l.hash = true
			break
		}
		made := -1
		if unbound && strings.Contains(level, "${") {
			made = b.template(template{text: level, first: i == 0}, number)
			size.fixed -= len(level)
			size.made = append(size.made, made)
		} else if i == 0 {
			b.dollar(level)
		}
		l.texts, l.made = append(l.texts, level), append(l.made, made)
	}
	if unbound {
		b.sizes = append(b.sizes, size)
	}
	return l
}

// template returns the number of t. It adds t if it is new.
func (b *indexBuilder) template(t template, rule int) int {
	n, known := b.templates[t]
	if !known {
		n = len(b.made)
		b.templates[t] = n
		t.rule = rule
		b.made = append(b.made, t)
	}
	return n
}

// splitLevels splits a topic at its slashes, except for those within placeholders.
func splitLevels(text string, placeholders bool) (levels []string) {
	from := 0
	for i := 0; i < len(text); i++ {
		switch {
		case placeholders && strings.HasPrefix(text[i:], "${"):
			i += strings.IndexByte(text[i:], '}')
		case text[i] == '/':
			levels = append(levels, text[from:i])
			from = i + 1
		}
	}
	return append(levels, text[from:])
}

// flush makes a chunk of the topics that have been added.
func (b *indexBuilder) flush() {
	if len(b.topics) == 0 {
		return
	}
	words := (len(b.topics) + 63) / 64
	c := chunk{deny: make(set, words), levels: make([]position, b.longest+1)}
	for q := range c.asked {
		c.asked[q] = make(set, words)
	}
	for i := range c.levels {
		all := make(set, 4*words)
		c.levels[i] = position{open: all[:words:words], hash: all[words : 2*words : 2*words], end: all[2*words : 3*words : 3*words], longer: all[3*words:]}
	}
	for n, l := range b.topics {
		if b.rules[n].deny {
			c.deny.add(n)
		}
		for q := range c.asked {
			if b.rules[n].about(q) {
				c.asked[q].add(n)
			}
		}
		c.place(n, l)
	}
	b.post(&c)
	b.chunks = append(b.chunks, c)
	b.rules, b.topics, b.longest = nil, nil, 0
}

// place adds topic n to the sets of its levels.
func (c *chunk) place(n int, l levels) {
	if l.whole != "" {
		return // it is matched only by its text
	}
	for i := range c.levels {
		p := &c.levels[i]
		over := i >= len(l.texts)
		if over && l.hash {
			p.hash.add(n)
			p.open.add(n)
		}
		if i == len(l.texts) || over && l.hash {
			p.end.add(n)
		}
		if over {
			continue
		}
		if i > 0 || !l.dollar() {
			p.longer.add(n)
		}
		if l.texts[i] == "+" {
			p.open.add(n)
		}
	}
}

// key identifies a posting.
type key struct {
	text string
	made int
}

// post makes the postings of every level.
func (b *indexBuilder) post(c *chunk) {
	whole := make(map[key][]uint16)
	at := make([]map[key][]uint16, len(c.levels))
	for n, l := range b.topics {
		if l.whole != "" {
			k := key{l.whole, -1}
			whole[k] = append(whole[k], uint16(n))
		}
		for i, text := range l.texts {
			if at[i] == nil {
				at[i] = make(map[key][]uint16)
			}
			if k := (key{text, l.made[i]}); text != "+" {
				at[i][k] = append(at[i][k], uint16(n))
			}
		}
	}
	c.whole.post(whole, len(c.deny))
	for i := range c.levels {
		c.levels[i].post(at[i], len(c.deny))
	}
}

// post makes the postings of p. words is the size of a set.
func (p *position) post(numbers map[key][]uint16, words int) {
	for k, few := range numbers {
		e := posting{text: k.text, made: int32(k.made), at: int32(len(p.numbers)), n: int32(len(few))}
		if len(few) > 4*words {
			many := make(set, words)
			for _, n := range few {
				many.add(int(n))
			}
			e.at, e.n = int32(len(p.sets)), -1
			p.sets = append(p.sets, many...)
		} else {
			p.numbers = append(p.numbers, few...)
		}
		if k.made >= 0 {
			p.made = append(p.made, e)
		} else {
			p.texts = append(p.texts, e)
		}
	}
	slices.SortFunc(p.texts, func(a, b posting) int { return strings.Compare(a.text, b.text) })
	p.texts, p.made, p.numbers, p.sets = slices.Clone(p.texts), slices.Clone(p.made), slices.Clone(p.numbers), slices.Clone(p.sets)
}
