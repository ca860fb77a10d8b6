package page

import (
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page/chart"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// templates has the template of each page, by its name.
type templates map[string]*template.Template

// parseTemplates parses what is embedded, which does not fail in a program that passes its tests.
func parseTemplates() templates {
	layout := template.Must(template.New("").Funcs(functions()).ParseFS(templateFiles, "templates/layout.html"))
	all := make(templates)
	names, _ := fs.Glob(templateFiles, "templates/*.html") // the pattern is good
	for _, path := range names {
		name := strings.TrimSuffix(strings.TrimPrefix(path, "templates/"), ".html")
		if name != "layout" {
			all[name] = template.Must(template.Must(layout.Clone()).ParseFS(templateFiles, path))
		}
	}
	return all
}

// functions are what the templates may call.
func functions() template.FuncMap {
	return template.FuncMap{
		"ago":      ago,
		"bytes":    func(n int64) string { return chart.Bytes(float64(n)) },
		"number":   func(v any) string { return number(v) },
		"moment":   moment,
		"until":    until,
		"sentence": sentence,
	}
}

// sentence writes a text that is part of a table as a sentence.
func sentence(text string) template.HTML {
	if text == "" {
		return ""
	}
	first, size := utf8.DecodeRuneInString(text)
	return marked(string(unicode.ToUpper(first)) + text[size:] + ".")
}

// number writes a count with all its digits, in groups of three.
func number(v any) string {
	text := fmt.Sprint(v)
	if f, ok := v.(float64); ok {
		if math.IsNaN(f) {
			return "–"
		}
		text = fmt.Sprintf("%.0f", f)
	}
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "\u2009" + text[i:]
	}
	return text
}

// moment writes a time in full.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// ago writes how long ago t was, with the time itself as a tooltip.
func ago(now, t time.Time) template.HTML {
	if t.IsZero() {
		return "–"
	}
	return timeElement(t, span(now.Sub(t))+" ago")
}

// until writes how long it is until t, with the time itself as a tooltip.
func until(now, t time.Time) template.HTML {
	switch {
	case t.IsZero():
		return "never"
	case t.Before(now):
		return timeElement(t, span(now.Sub(t))+" ago")
	}
	return timeElement(t, "in "+span(t.Sub(now)))
}

// timeElement contains no text of others: both parts are times.
func timeElement(t time.Time, text string) template.HTML {
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, t.UTC().Format(time.RFC3339), moment(t), text))
}

// span writes a duration with one unit.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = max(d, 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/day)
}

// asset answers with a file of assets/. They are not secret, and the form that signs in needs
// them.
func asset(w http.ResponseWriter, r *http.Request) {
	content, err := assetFiles.ReadFile("assets/" + r.PathValue("name"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	name := r.PathValue("name")
	w.Header().Set("Content-Type", contentTypes(name[strings.LastIndexByte(name, '.')+1:]))
	w.Header().Set("Cache-Control", "max-age=300")
	_, _ = w.Write(content)
}

// contentTypes returns the type of a file. Package mime would ask the files of the system.
func contentTypes(extension string) string {
	switch extension {
	case "css":
		return "text/css; charset=utf-8"
	case "js":
		return "text/javascript; charset=utf-8"
	case "svg":
		return "image/svg+xml"
	}
	return "application/octet-stream"
}
