package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

var from = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func example(values ...float64) Chart {
	c := Chart{Title: "Sessions", From: from, To: from.Add(time.Hour), Gap: 25 * time.Second, Lines: []Line{{Name: "sessions", Values: values}}}
	for i := range values {
		c.Times = append(c.Times, from.Add(time.Duration(i)*10*time.Second))
	}
	return c
}

// parsed fails the test if the picture is not well-formed, and returns its texts.
func parsed(t *testing.T, svg string) (texts []string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if text, ok := token.(xml.CharData); ok {
			texts = append(texts, string(text))
		}
	}
}

func TestEveryChartIsWellFormed(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for name, values := range map[string][]float64{
		"none": nil, "one": {5}, "zero": {0, 0}, "gap": {1, nan, 3}, "only gaps": {nan, nan}, "infinite": {1, inf, -inf},
		"huge": {1e299, -1e299}, "beyond": {1e308, 1}, "tiny": {1e-300, 2e-300}, "negative": {-5, -7}, "equal": {7, 7, 7},
	} {
		for _, loose := range []bool{false, true} {
			c := example(values...)
			c.Loose = loose
			svg := string(c.SVG())
			parsed(t, svg)
			if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
				t.Errorf("%s: there is a place that is not a number:\n%s", name, svg)
			}
			if len(svg) > 20_000 {
				t.Errorf("%s: %d bytes", name, len(svg))
			}
		}
	}
	empty := Chart{}
	parsed(t, string(empty.SVG()))
}

func TestHostileTextsStayTexts(t *testing.T) {
	const hostile = `</title><script>alert(1)</script>"'&<b onload=x>`
	c := example(1, 2)
	c.Title, c.Lines[0].Name = hostile, hostile
	c.Format = func(float64) string { return hostile }
	svg := string(c.SVG())
	parsed(t, svg)
	if strings.Contains(svg, "<script") || strings.Contains(svg, "<b ") {
		t.Errorf("a text has become markup:\n%s", svg)
	}
}

func TestTicksAreRound(t *testing.T) {
	for _, tt := range []struct {
		max, base float64
		want      string
	}{
		{3, 0, "0 1 2 3"}, {10, 0, "0 5 10"}, {4321, 0, "0 2k 4k 6k"}, {0.07, 0, "0 0.02 0.04 0.06 0.08"}, {5000, 1024, "0 B 2 KiB 4 KiB 6 KiB"},
	} {
		c := example(0, tt.max)
		if c.Base = tt.base; c.Base == 1024 {
			c.Format = Bytes
		}
		var labels []string
		for _, text := range parsed(t, string(c.SVG())) {
			if !strings.ContainsAny(text, ":") && text != c.Title {
				labels = append(labels, text)
			}
		}
		if got := strings.Join(labels, " "); got != tt.want {
			t.Errorf("up to %v: %q, want %q", tt.max, got, tt.want)
		}
	}
}

func TestLongPauseInterruptsTheLine(t *testing.T) {
	c := example(1, 2, 3, 4)
	for i := 2; i < 4; i++ {
		c.Times[i] = c.Times[i].Add(time.Minute)
	}
	svg := string(c.SVG())
	_, line, _ := strings.Cut(svg, `class="line line-1" d="`)
	line, _, _ = strings.Cut(line, `"`)
	if strings.Count(line, "M") != 2 || strings.Count(line, "L") != 2 {
		t.Errorf("the line is %q, want two pieces", line)
	}
}

func TestSingleValueIsADot(t *testing.T) {
	nan := math.NaN()
	svg := string(example(nan, 5, nan, 1, 2).SVG())
	if strings.Count(svg, "h0") != 1 || strings.Count(svg, `line-1 dot"`) != 1 || strings.Count(svg, "L") != 1 {
		t.Errorf("want a dot and a line:\n%s", svg)
	}
}

func TestDescriptionSaysWhatIsNowAndMost(t *testing.T) {
	svg := string(example(5, 9, 3).SVG())
	if !strings.Contains(svg, "<desc>sessions: now 3, at most 9.</desc>") {
		t.Error(svg)
	}
}

func TestNumbersAreShort(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{Number(0), "0"}, {Number(999.96), "1k"}, {Number(1234), "1.23k"}, {Number(50_000), "50k"}, {Number(-2.5e6), "-2.5M"}, {Number(0.12345), "0.123"},
		{Plain(1012.5), "1012.5"}, {Plain(0.1 + 0.2), "0.3"}, {Plain(-1e9), "-1e+09"}, {Plain(0), "0"},
		{Bytes(0), "0 B"}, {Bytes(1536), "1.5 KiB"}, {Bytes(1 << 30), "1 GiB"},
		{Seconds(0.00042), "420 µs"}, {Seconds(0.0123), "12.3 ms"}, {Seconds(2.5), "2.5 s"}, {Seconds(600), "10 min"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}

func BenchmarkSVG(b *testing.B) {
	values := make([]float64, 360)
	for i := range values {
		values[i] = float64(i % 50)
	}
	c := example(values...)
	for b.Loop() {
		c.SVG()
	}
}
