package freshness

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestOf(t *testing.T) {
	const none = -1
	for _, c := range []struct {
		control []string
		age     string
		want    Control
	}{
		{nil, "", Control{MaxAge: none}},
		{[]string{"max-age=60"}, "10", Control{MaxAge: time.Minute, Age: 10 * time.Second}},
		{[]string{` public , Max-Age = "60" `}, " 7 ", Control{MaxAge: time.Minute, Age: 7 * time.Second}},
		{[]string{"max-age=60, max-age=5"}, "", Control{MaxAge: 5 * time.Second}},
		{[]string{"max-age=60", "max-age=x"}, "x", Control{}},
		{[]string{"max-age"}, "-1", Control{}},
		{[]string{"max-age=60", "NO-STORE"}, "", Control{MaxAge: time.Minute, NoStore: true}},
		{[]string{`no-cache="Set-Cookie"`}, "", Control{MaxAge: none, NoStore: true}},
		{[]string{"must-revalidate,max-age=1"}, "", Control{MaxAge: time.Second, MustRevalidate: true}},
		{[]string{"s-maxage=5, private, x-no-store"}, "", Control{MaxAge: none}},
		{[]string{"max-age=" + strings.Repeat("9", 40)}, strings.Repeat("9", 19), Control{MaxAge: Longest, Age: Longest}},
	} {
		if got := Of(http.Header{"Cache-Control": c.control, "Age": {c.age}}); got != c.want {
			t.Errorf("%q with age %q is %+v, want %+v", c.control, c.age, got, c.want)
		}
	}
}

// FuzzOf: every duration is within its bounds, and the position of a directive does not matter.
func FuzzOf(f *testing.F) {
	f.Add("max-age=60", "", "10")
	f.Add("max-age=5, max-age=10", `no-cache="Set-Cookie"`, "-1")
	f.Add("max-age=18700000000000000000A", "\x00", "99999999999999999999")
	f.Fuzz(func(t *testing.T, first, second, age string) {
		c := Of(http.Header{"Cache-Control": {first, second}, "Age": {age}})
		if c.MaxAge < -1 || c.MaxAge > Longest || c.Age < 0 || c.Age > Longest || c.MaxAge > 0 && c.MaxAge%time.Second != 0 {
			t.Errorf("%+v", c)
		}
		all := []string{first, second, "no-store", "max-age=7"}
		if c := Of(http.Header{"Cache-Control": all}); !c.NoStore || c.MaxAge < 0 || c.MaxAge > 7*time.Second {
			t.Errorf("%q is %+v", all, c)
		}
	})
}
