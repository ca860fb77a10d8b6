package telemetry

import (
	"cmp"
	"math"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// aggregate collects the values of one key in one interval.
type aggregate struct {
	values  int64
	numbers int64
	best    payload.Value // the minimum or maximum so far, or none
	sum     float64
	// longs is the sum as an integer. inexact says that it is not the sum, because a double
	// was among the numbers or the sum did not fit.
	longs   int64
	inexact bool
}

func (a *aggregate) add(name string, v payload.Value) {
	a.values++
	switch name {
	case "MIN":
		if better(v, a.best, -1) {
			a.best = v.Clone()
		}
	case "MAX":
		if better(v, a.best, +1) {
			a.best = v.Clone()
		}
	case "SUM", "AVG":
		a.addNumber(v)
	}
}

func (a *aggregate) addNumber(v payload.Value) {
	f, ok := v.Float()
	if !ok {
		return
	}
	a.numbers++
	a.sum += f
	n, isLong := v.Long()
	total := a.longs + n
	if overflow := (total < a.longs) != (n < 0); !isLong || overflow {
		a.inexact = true
	}
	a.longs = total
}

// result returns the aggregate, and whether there were any values for it.
func (a *aggregate) result(name string) (payload.Value, bool) {
	finite := !math.IsInf(a.sum, 0) && !math.IsNaN(a.sum)
	switch name {
	case "MIN", "MAX":
		return a.best, a.best.Kind() != 0
	case "COUNT":
		return payload.Long(a.values), a.values > 0
	case "AVG":
		return payload.Double(a.sum / float64(a.numbers)), a.numbers > 0 && finite
	}
	if a.inexact {
		return payload.Double(a.sum), finite
	}
	return payload.Long(a.longs), a.numbers > 0
}

// better reports whether v replaces best: for sign -1 if it is less, for +1 if it is greater.
// Any number is better than any string.
func better(v, best payload.Value, sign int) bool {
	if mine, other := rank(v), rank(best); mine != other || mine == 0 {
		return mine > other
	}
	return compare(v, best)*sign > 0
}

func rank(v payload.Value) int {
	switch v.Kind() {
	case payload.KindLong, payload.KindDouble:
		return 2
	case payload.KindString:
		return 1
	}
	return 0
}

// compare orders two numbers or two strings.
func compare(a, b payload.Value) int {
	if a.Kind() == payload.KindString {
		return strings.Compare(a.String(), b.String())
	}
	m, isLong := a.Long()
	n, areLongs := b.Long()
	if isLong && areLongs {
		return cmp.Compare(m, n) // large ones might be equal as doubles
	}
	f, _ := a.Float()
	g, _ := b.Float()
	return cmp.Compare(f, g)
}
