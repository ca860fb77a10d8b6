package authz

import (
	"strings"
	"unicode/utf8"
)

const (
	maxTopic  = 65535 // bytes, MQTT 5.0 section 4.7.3
	wildcards = "+#"
	shared    = "$share/"
)

// ValidTopic reports whether s is a topic name to which a message can be published: 1 to 65,535
// bytes of UTF-8 without NUL and without wildcards. MQTT 5.0 section 4.7, [MQTT-3.3.2-2].
func ValidTopic(s string) bool { return validText(s) && !strings.ContainsAny(s, wildcards) }

// ValidFilter reports whether s is a topic filter: like a topic name, but a level may be + and
// the last level may be # ([MQTT-4.7.1-1], [MQTT-4.7.1-2]). A shared subscription,
// $share/group/filter, is a filter as well (MQTT 5.0 section 4.8.2), at every protocol level. A
// nested one is not, because brokers disagree about its meaning.
func ValidFilter(s string) bool {
	if !validText(s) {
		return false
	}
	if s == "$share" || strings.HasPrefix(s, shared) {
		group, filter, _ := strings.Cut(strings.TrimPrefix(s, shared), "/")
		if group == "" || filter == "" || strings.ContainsAny(group, wildcards) || strings.HasPrefix(filter, shared) {
			return false
		}
		s = filter
	}
	for {
		level, rest, more := strings.Cut(s, "/")
		switch {
		case len(level) > 1 && strings.ContainsAny(level, wildcards), level == "#" && more:
			return false
		case !more:
			return true
		}
		s = rest
	}
}

func validText(s string) bool {
	return s != "" && len(s) <= maxTopic && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

// Match reports whether filter selects topic. A filter that begins with a wildcard does not
// select topics that begin with $ ([MQTT-4.7.2-1]); $share/group/ in front of a filter is
// ignored. Both arguments must be valid.
func Match[T string | []byte](filter string, topic T) bool {
	filter = unshared(filter)
	if len(topic) > 0 && topic[0] == '$' && wild(filter) {
		return false
	}
	f, t := 0, 0
	for f < len(filter) {
		switch filter[f] {
		case '#':
			return true
		case '+':
			f++
			for t < len(topic) && topic[t] != '/' {
				t++
			}
		default:
			for f < len(filter) && filter[f] != '/' {
				if t == len(topic) || topic[t] != filter[f] {
					return false
				}
				f++
				t++
			}
		}
		// The filter's level ends here, and the topic's level must end as well.
		switch {
		case t == len(topic):
			return f == len(filter) || filter[f:] == "/#"
		case f == len(filter) || topic[t] != '/':
			return false
		}
		f++
		t++
	}
	return t == len(topic)
}

// Contains reports whether filter selects every topic that sub selects. Both must be valid;
// $share/group/ in front of either is ignored.
func Contains(filter, sub string) bool {
	f, s := unshared(filter), expanded(unshared(sub))
	if s != "" && s[0] == '$' && wild(f) {
		return false
	}
	for {
		fLevel, fRest, fMore := strings.Cut(f, "/")
		sLevel, sRest, sMore := strings.Cut(s, "/")
		switch {
		case fLevel == "#":
			return true
		case sLevel == "#", fLevel != "+" && fLevel != sLevel:
			return false
		case !sMore:
			return !fMore || fRest == "#"
		case !fMore:
			return false
		}
		f, s = fRest, sRest
	}
}

// Overlaps reports whether there is a topic that both a and b select. Both must be valid;
// $share/group/ in front of either is ignored.
func Overlaps(a, b string) bool {
	a, b = expanded(unshared(a)), expanded(unshared(b))
	if a != "" && a[0] == '$' && wild(b) || b != "" && b[0] == '$' && wild(a) {
		return false
	}
	for {
		aLevel, aRest, aMore := strings.Cut(a, "/")
		bLevel, bRest, bMore := strings.Cut(b, "/")
		switch {
		case aLevel == "#", bLevel == "#":
			return true
		case aLevel != "+" && bLevel != "+" && aLevel != bLevel:
			return false
		case !aMore:
			return !bMore || bRest == "#"
		case !bMore:
			return aRest == "#"
		}
		a, b = aRest, bRest
	}
}

// unshared returns the filter of a shared subscription. It returns any other filter unchanged.
func unshared(filter string) string {
	if rest, ok := strings.CutPrefix(filter, shared); ok {
		_, filter, _ = strings.Cut(rest, "/")
	}
	return filter
}

// expanded replaces two filters whose # would include the parent level, because here the parent
// is the empty topic, which does not exist.
func expanded(filter string) string {
	switch filter {
	case "#":
		return "+/#"
	case "/#":
		return "/+/#"
	}
	return filter
}

// firstLevel returns the first level of a topic or filter.
func firstLevel[T string | []byte](topic T) T {
	for i := range len(topic) {
		if topic[i] == '/' {
			return topic[:i]
		}
	}
	return topic
}

// wild reports whether filter begins with a wildcard.
func wild(filter string) bool { return filter != "" && (filter[0] == '+' || filter[0] == '#') }
