package page

import (
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/refusals"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// refused is what the list of refusals shows.
type refused struct {
	Filter  url.Values // the fields of the form that are set
	Reasons []refusals.Count
	All     []proxy.Reason // for the form
	Rows    []refusedRow
	Total   int
	Next    string // the path of older rows, or empty
	First   string // the path of the newest rows, unless they are shown
}

// refusedRow is a refusal with what its reason means.
type refusedRow struct {
	refusals.Refusal
	Meaning, Advice string
}

func (p *Page) refusals(r *request) (any, error) {
	query := url.Values{}
	for name, values := range r.query {
		if text := strings.TrimSpace(values[0]); text != "" {
			query.Set(name, text)
		}
	}
	before := query.Get("before")
	query.Set("limit", strconv.Itoa(pageSize))
	filter, err := admin.RefusalFilter(query, r.now)
	if err != nil {
		return nil, &statusError{http.StatusBadRequest, "The filter cannot be used: " + err.Error() + "."}
	}
	query.Del("limit")
	query.Del("before")
	found := p.API.Refusals.List(filter)
	page := refused{Filter: query, Reasons: p.API.Refusals.Counts(), Total: found.Total}
	for _, info := range proxy.Reasons() {
		page.All = append(page.All, info.Reason)
	}
	page.Rows = describe(found.Refusals)
	if before != "" {
		page.First = refusalsPath(query)
	}
	if found.Next > 0 {
		query.Set("before", strconv.FormatUint(found.Next, 10))
		page.Next = refusalsPath(query)
		query.Del("before")
	}
	return page, nil
}

// describe adds what the reasons mean.
func describe(rows []refusals.Refusal) (all []refusedRow) {
	for _, row := range rows {
		all = append(all, refusedRow{row, row.Reason.Info().Meaning, refusals.Advice(row.Reason)})
	}
	return all
}

// refusalsPath returns the path of the list with a filter.
func refusalsPath(query url.Values) string { return "/refusals?" + query.Encode() }

// Is reports whether a reason is the one that is asked for.
func (r refused) Is(reason proxy.Reason) bool { return string(reason) == r.Filter.Get("reason") }

// marked returns a text in which a part between backquotes is code, as in the tables of the
// manual.
func marked(text string) template.HTML {
	var b strings.Builder
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			b.WriteString("<code>" + template.HTMLEscapeString(part) + "</code>")
			continue
		}
		b.WriteString(template.HTMLEscapeString(part))
	}
	return template.HTML(b.String())
}
