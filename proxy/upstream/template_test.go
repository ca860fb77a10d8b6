package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// sample has a different value for each placeholder.
func sample() Values {
	return Values{
		Subject:    "pump-7",
		TokenID:    "t1",
		ClientID:   "cid",
		Username:   "user",
		Token:      "hunter2",
		Listener:   "mqtts",
		ClientAddr: "192.0.2.1",
		Attrs:      map[string]string{"site": "north", "a.b": "dotted", "empty": "", "nasty": "${token}"},
	}
}

func mustParse(t testing.TB, text string, field Field) *Template {
	t.Helper()
	template, err := ParseTemplate(text, field)
	if err != nil {
		t.Fatal(err)
	}
	return template
}

func TestTemplateExpand(t *testing.T) {
	t.Setenv("UPSTREAM_TEST", "from-env")
	dir := t.TempDir()
	file := write(t, dir, "secret", []byte("from file\r\n"))
	lines := write(t, dir, "lines", []byte("a\n\n"))
	carriage := write(t, dir, "carriage", []byte("a\r"))
	tests := []struct {
		text  string
		field Field
		want  string
	}{
		{"", Username, ""},
		{"fixed", ClientID, "fixed"},
		{"${subject}", Username, "pump-7"},
		{"${token_id}", Username, "t1"},
		{"${client_id}", ClientID, "cid"},
		{"${username}", Username, "user"},
		{"${token}", Password, "hunter2"},
		{"${listener}", Username, "mqtts"},
		{"${client_addr}", Username, "192.0.2.1"},
		{"${attrs.site}", Username, "north"},
		{"${attrs.a.b}", Username, "dotted"},
		{"${attrs.nasty}", Username, "${token}"},
		{"${env:UPSTREAM_TEST}", Username, "from-env"},
		{"${file:" + file + "}", Password, "from file"},
		{"${file:" + lines + "}", Password, "a\n"},
		{"${file:" + carriage + "}", Password, "a\r"},
		{"gw-${client_id}", ClientID, "gw-cid"},
		{"${clientid}/${client_attrs.site}/${peerhost}", Username, "cid/north/192.0.2.1"},
		{"${attrs.site}/${subject}-x", ClientID, "north/pump-7-x"},
		{"${subject}${env:UPSTREAM_TEST}${client_id}", ClientID, "pump-7from-envcid"},
		{"${subject}${subject}", ClientID, "pump-7pump-7"},
		{"${subject}${token}", Password, "pump-7hunter2"},
		{"pa$$word$", Password, "pa$$word$"},
		{"$", Password, "$"},
		{"$subject $(x) {y}", Username, "$subject $(x) {y}"},
		{"$${subject}", Username, "${subject}"},
		{"$$${subject}", Username, "$${subject}"},
		{"a$${b}${subject}$${", Username, "a${b}pump-7${"},
		{"}${subject}}", Username, "}pump-7}"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			got, err := mustParse(t, tt.text, tt.field).Expand(sample())
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestParseTemplateRefuses(t *testing.T) {
	t.Setenv("UPSTREAM_EMPTY", "")
	t.Setenv("UPSTREAM_BELL", "hunter2\a")
	dir := t.TempDir()
	empty := write(t, dir, "empty", []byte("\n"))
	large := write(t, dir, "large", make([]byte, maxSecretFile+1))
	latin := write(t, dir, "latin", []byte("hunter2\xe9"))
	full := write(t, dir, "full", []byte(strings.Repeat("x", maxField)))
	tests := []struct {
		text  string
		field Field
		says  []string
	}{
		{"${", Username, []string{"byte 1 has no closing brace", "$${"}},
		{"hunter2${subject", Username, []string{"byte 8 has no closing brace"}},
		{"ab${}", Username, []string{"byte 3 is empty", "${client_addr}"}},
		{"${subjekt}", Username, []string{"byte 1 is unknown", "${subject}", "${file:PATH}", "$${"}},
		{"pa${hunter2}ss", Password, []string{"byte 3 is unknown"}},
		{"${subject}${ subject}", Username, []string{"byte 11 is unknown"}},
		{"${Subject}", Username, []string{"is unknown"}},
		{"${attrs}", Username, []string{"is unknown"}},
		{"${attrs.}", Username, []string{"${attrs.NAME}"}},
		{"${attrs.a b}", Username, []string{"without spaces"}},
		{"${attrs.${subject}}", Username, []string{"nested"}},
		{"${file:${env:HOME}/x}", Username, []string{"nested"}},
		{"${env:}", Username, []string{"${env:NAME}"}},
		{"${env:A-B}", Username, []string{"letters, digits and underscores"}},
		{"${env:UPSTREAM_EMPTY}", Username, []string{"${env:UPSTREAM_EMPTY}", "not set or empty"}},
		{"${env:UPSTREAM_MISSING}", Username, []string{"${env:UPSTREAM_MISSING}", "not set or empty"}},
		{"${env:UPSTREAM_BELL}", Username, []string{"${env:UPSTREAM_BELL} contains a control character"}},
		{"${file:}", Username, []string{"is unknown", "${file:PATH}"}},
		{"${file:secret}", Username, []string{"absolute path"}},
		{"${file:" + filepath.Join(dir, "none") + "}", Username, []string{dir, "no such file"}},
		{"${file:" + dir + "}", Username, []string{dir, "not a regular file"}},
		{"${file:" + empty + "}", Username, []string{empty, "is empty"}},
		{"${file:" + large + "}", Password, []string{large, "more than 65536 bytes"}},
		{"${file:" + latin + "}", Username, []string{latin, "not valid UTF-8"}},
		{"${file:" + full + "}y", Password, []string{"65535"}},
		{strings.Repeat("x", maxField+1), Password, []string{"65535"}},
		{"hunter2\xff", Username, []string{"the text of the template is not valid UTF-8"}},
		{"hunter2\n", ClientID, []string{"the text of the template contains a control character"}},
		{"hunter2\u0085", ClientID, []string{"control character"}},
		{"${subject}${client_id}", ClientID, []string{"${subject} and ${client_id} need a character between them"}},
		{"${subject}:${token_id}${client_id}", Username, []string{"${token_id} and ${client_id} need"}},
	}
	for _, tt := range tests {
		t.Run(tt.text[:min(len(tt.text), 40)], func(t *testing.T) {
			template, err := ParseTemplate(tt.text, tt.field)
			if err == nil || template != nil {
				t.Fatalf("got %v, %v", template, err)
			}
			checkSays(t, err, tt.says...)
		})
	}
}

func TestTemplateExpandRefuses(t *testing.T) {
	tests := []struct {
		text        string
		field       Field
		values      Values
		placeholder string
		problem     string
	}{
		{"${attrs.site}", Username, Values{}, "attrs.site", "not among the attributes"},
		{"${attrs.site}", Password, Values{}, "attrs.site", "not among the attributes"},
		{"${attrs.site}", Username, Values{Attrs: map[string]string{"site": ""}}, "attrs.site", "no value"},
		{"${subject}", Username, Values{}, "subject", "no value"},
		{"${token}", Password, Values{}, "token", "no value"},
		{"gw-${client_id}", ClientID, Values{}, "client_id", "no value"},
		{"${username}x", Username, Values{}, "username", "no value"},
		{"${client_id}", ClientID, Values{ClientID: "hunter2\x00"}, "client_id", "control character"},
		{"${client_id}", ClientID, Values{ClientID: "hunter2\u009f"}, "client_id", "control character"},
		{"${username}", Username, Values{Username: "hunter2\xff"}, "username", "not valid UTF-8"},
		{"${subject}:${client_id}", Username, Values{Subject: "hunter2:x", ClientID: "c"}, "subject", "separates it from the next"},
		{"${subject}-:${client_id}", ClientID, Values{Subject: "hunter2-x", ClientID: "c"}, "subject", "separates it from the next"},
		{"${subject}ä${client_id}", ClientID, Values{Subject: "hunter2ä", ClientID: "c"}, "subject", "separates it from the next"},
		{"${client_id}/${subject}/${client_id}", Username, Values{Subject: "hunter2/", ClientID: "c"}, "subject", "separates it from the next"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			got, err := mustParse(t, tt.text, tt.field).Expand(tt.values)
			fault, ok := errors.AsType[*ValueError](err)
			if !ok || got != "" {
				t.Fatalf("got %q, %v", got, err)
			}
			if fault.Placeholder != tt.placeholder || !strings.Contains(fault.Problem, tt.problem) {
				t.Errorf("got %q, %q", fault.Placeholder, fault.Problem)
			}
			if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "${"+tt.placeholder+"} ") {
				t.Errorf("error %q repeats a secret or does not name the placeholder", err)
			}
		})
	}
}

func TestTemplateFreeValues(t *testing.T) {
	tests := []struct {
		text   string
		field  Field
		values Values
		want   string
	}{
		// There is no restriction on the last value of a name, or on the only one.
		{"${subject}:${client_id}", ClientID, Values{Subject: "a", ClientID: "b:c"}, "a:b:c"},
		{"x:${client_id}:y", ClientID, Values{ClientID: "b:c"}, "x:b:c:y"},
		{"${client_id}:${client_id}", ClientID, Values{ClientID: "b:c"}, "b:c:b:c"},
		// Only the first character after a placeholder is its separator.
		{"${subject}-:${client_id}", ClientID, Values{Subject: "a:b", ClientID: "c"}, "a:b-:c"},
		// A password is binary and does not identify a device.
		{"${subject}:${token}", Password, Values{Subject: "a:b", Token: "\x00\xff"}, "a:b:\x00\xff"},
		// Values that the device did not send are passed on as empty.
		{"${client_id}", ClientID, Values{}, ""},
		{"${username}", Username, Values{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			got, err := mustParse(t, tt.text, tt.field).Expand(tt.values)
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestTemplateLength(t *testing.T) {
	half := strings.Repeat("x", maxField/2+1)
	for _, tt := range []struct {
		text   string
		values Values
		want   int // 0 means that it is refused
	}{
		{"${client_id}", Values{ClientID: half + half}, 0},
		{"${subject}/${client_id}", Values{Subject: half, ClientID: half}, 0},
		{"${client_id}", Values{ClientID: half + half[1:]}, maxField},
		{"${subject}/${client_id}", Values{Subject: half, ClientID: half[2:]}, maxField},
	} {
		got, err := mustParse(t, tt.text, ClientID).Expand(tt.values)
		if len(got) != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("%s gives %d bytes, %v, want %d", tt.text, len(got), err, tt.want)
		}
	}
}

// TestTemplateAllocations checks the allocations that the documentation of Expand promises.
func TestTemplateAllocations(t *testing.T) {
	for text, most := range map[string]float64{"proxy": 0, "${client_id}": 0, "${attrs.site}": 0, "${subject}:${client_id}": 1} {
		template, values := mustParse(t, text, ClientID), sample()
		if got := testing.AllocsPerRun(100, func() { _, _ = template.Expand(values) }); got > most {
			t.Errorf("%s: %v allocations, at most %v are promised", text, got, most)
		}
	}
}

func TestTemplateReload(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "separator", []byte(":"))
	template := mustParse(t, "${subject}${file:"+path+"}${client_id}", Username)
	expand := func(subject, want string) {
		t.Helper()
		if got, _ := template.Expand(Values{Subject: subject, ClientID: "c"}); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	expand("a/b", "a/b:c")
	expand("a:b", "")

	write(t, dir, "separator", []byte("/"))
	expand("a/b", "a/b:c") // not before Reload
	if err := template.Reload(); err != nil {
		t.Fatal(err)
	}
	expand("a/b", "")
	expand("a:b", "a:b/c")

	write(t, dir, "separator", nil)
	if err := template.Reload(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Reload returned %v", err)
	}
	expand("a:b", "a:b/c")
}

func TestTemplateConcurrentUse(t *testing.T) {
	path := write(t, t.TempDir(), "secret", []byte("s"))
	template := mustParse(t, "${subject}:${file:"+path+"}", Username)
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for range 100 {
				if err := template.Reload(); err != nil {
					t.Error(err)
				}
				if got, err := template.Expand(sample()); got != "pump-7:s" || err != nil {
					t.Errorf("got %q, %v", got, err)
				}
			}
		})
	}
	users.Wait()
}

func TestTemplateFacts(t *testing.T) {
	t.Setenv("UPSTREAM_TEST", "hunter2")
	file := write(t, t.TempDir(), "secret", []byte("hunter2"))
	tests := []struct {
		text         string
		field        Field
		placeholders []string
		is           string
		secret       bool
	}{
		{"", Username, nil, "", false},
		{"client_id", ClientID, nil, "", false},
		{"${client_id}", ClientID, []string{"client_id"}, "client_id", false},
		{"${client_id}${client_id}", ClientID, []string{"client_id"}, "", false},
		{"${clientid}", ClientID, []string{"client_id"}, "client_id", false},
		{"${attrs.a}/${subject}/${attrs.a}", ClientID, []string{"attrs.a", "subject"}, "", false},
		{"${subject}", Password, []string{"subject"}, "subject", false},
		{"${token}", Username, []string{"token"}, "token", true},
		{"x-${env:UPSTREAM_TEST}", Username, []string{"env:UPSTREAM_TEST"}, "", true},
		{"${file:" + file + "}", Password, []string{"file:" + file}, "file:" + file, true},
		{"hunter2", Password, nil, "", true},
		{"hunter2${subject}", Password, []string{"subject"}, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			template := mustParse(t, tt.text, tt.field)
			if got := template.Placeholders(); !slices.Equal(got, tt.placeholders) {
				t.Errorf("Placeholders() = %q", got)
			}
			for _, name := range []string{"client_id", "subject", "token", "file:" + file, ""} {
				if got, want := template.Is(name), name != "" && name == tt.is; got != want {
					t.Errorf("Is(%q) = %v", name, got)
				}
			}
			if got := template.Secret(); got != tt.secret {
				t.Errorf("Secret() = %v", got)
			}
			if got := fmt.Sprint(template); tt.secret == (got == tt.text) {
				t.Errorf("prints as %q", got)
			}
		})
	}
}

func TestTemplateZero(t *testing.T) {
	var template Template
	if got, err := template.Expand(sample()); got != "" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if template.Secret() || template.Placeholders() != nil || template.Is("client_id") || template.Reload() != nil {
		t.Error("the zero Template is not the empty text")
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	values := sample()
	template := mustParse(t, "hunter2", Password)
	var out strings.Builder
	for _, v := range []any{values, &values, template, []any{values, template}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		if encoded, err := json.Marshal(v); err == nil {
			out.Write(encoded)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("text", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "v", v)
	}
	for _, leak := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), "104 117 110"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("prints %q", leak)
		}
	}
}
