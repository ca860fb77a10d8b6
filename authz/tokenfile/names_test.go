package tokenfile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestNamesFindWhatASearchFinds: the index of names finds the same entries as reading all of them,
// in the same order.
func TestNamesFindWhatASearchFinds(t *testing.T) {
	lines := []string{"# tokens\n", string(header())}
	for i := range 500 {
		subject := fmt.Sprintf(`"subject":"device-%d"`, i/3)
		switch i % 10 {
		case 0:
			lines = append(lines, "\n", line(fmt.Sprintf("only-an-id-%d", i)))
		case 1:
			lines = append(lines, line(fmt.Sprintf("device-%d", 300+i), subject))
		case 2:
			lines = append(lines, line(fmt.Sprintf("id-%d", i), `"subject":"everyone"`))
		default:
			lines = append(lines, line(fmt.Sprintf("id-%d", i), subject))
		}
	}
	d, err := newDocument(strings.NewReader(strings.Join(lines, "")))
	if err != nil {
		t.Fatal(err)
	}
	names := newNames(d.snap)
	asked := []string{"", "nothing", "device-9999"}
	for _, e := range d.snap.entries() {
		asked = append(asked, e.id, e.subject)
	}
	for _, name := range asked {
		var want []found
		for line, e := range d.snap.entries() {
			if e.isCalled(name) {
				want = append(want, found{e, line})
			}
		}
		if got := names.find(d.snap, name); !slices.Equal(got, want) {
			t.Fatalf("%q: %v, want %v", name, got, want)
		}
	}
}
