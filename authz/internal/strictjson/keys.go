package strictjson

import (
	"bytes"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// keys are the keys of one object. A few keys are compared one by one; a map is used when there
// are many.
type keys struct {
	few   [24][]byte
	n     int
	first uint32            // has the bits of the keys in few, see firstBit
	many  map[string][]byte // by Fold
}

// firstBit returns a bit for the first letter of a key, which is the same in upper and lower case.
// A key that does not begin with an ASCII character may be equal to one that does, and has all
// bits.
func firstBit(key []byte) uint32 {
	if len(key) == 0 || key[0] >= utf8.RuneSelf {
		return math.MaxUint32
	}
	return 1 << (key[0] & 31)
}

// add adds key. If the object already has a key that is equal or differs only in case, add
// returns that key, and otherwise nil.
func (k *keys) add(key []byte) (first []byte) {
	if k.n < len(k.few) {
		bit := firstBit(key)
		if k.first&bit != 0 {
			for _, other := range k.few[:k.n] {
				if bytes.EqualFold(other, key) {
					return other
				}
			}
		}
		k.few[k.n] = key
		k.n++
		k.first |= bit
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
