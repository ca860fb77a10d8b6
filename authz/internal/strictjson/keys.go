package strictjson

import (
	"bytes"
	"strings"
	"unicode"
)

// keys are the keys of one object. A few keys are compared one by one; a map is used when there
// are many.
type keys struct {
	few  [24][]byte
	n    int
	many map[string][]byte // by Fold
}

// add adds key. If the object already has a key that is equal or differs only in case, add
// returns that key, and otherwise nil.
func (k *keys) add(key []byte) (first []byte) {
	if k.n < len(k.few) {
		for _, other := range k.few[:k.n] {
			if bytes.EqualFold(other, key) {
				return other
			}
		}
		k.few[k.n] = key
		k.n++
		return nil
	}
	if k.many == nil {
		k.many = make(map[string][]byte)
		for _, other := range k.few {
			k.many[Fold(string(other))] = other
		}
	}
	folded := Fold(string(key))
	if other, ok := k.many[folded]; ok {
		return other
	}
	k.many[folded] = key
	return nil
}

// Fold returns the same text for all keys that are equal by [strings.EqualFold].
func Fold(key string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			r -= 'a' - 'A'
		}
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, key)
}
