// Reads requests.jsonl with the CloudEvents SDK for Go, as an HTTP server's handler would, and the data of profile
// aws with the types of aws-lambda-go. Prints one JSON line for each event.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/types"
)

type captured struct {
	Combination, Profile, Mode, Data string
	Headers                          [][2]string
	Body                             []byte `json:"body_base64"`
}

type line struct {
	Combination     string            `json:"combination"`
	Request         int               `json:"request"`
	Error           string            `json:"error,omitempty"`
	ID              string            `json:"id"`
	Source          string            `json:"source"`
	Type            string            `json:"type"`
	Subject         string            `json:"subject"`
	Time            *string           `json:"time"`
	DataContentType string            `json:"datacontenttype"`
	Extensions      map[string]string `json:"extensions"`
	Data            string            `json:"data"`
}

func main() {
	out := json.NewEncoder(os.Stdout)
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(nil, 64<<20)
	for n := 0; scanner.Scan(); n++ {
		var request captured
		check(json.Unmarshal(scanner.Bytes(), &request))
		events, err := read(request)
		if err != nil {
			check(out.Encode(line{Combination: request.Combination, Request: n, Error: err.Error()}))
		}
		for _, event := range events {
			if len(os.Args) > 1 && os.Args[1] == "lambda" {
				if request.Profile == "aws" && request.Data == "dynamodb-json" && !strings.HasSuffix(event.Type(), ".gap") {
					check(out.Encode(lambda(request.Combination, event.Data())))
				}
				continue
			}
			check(out.Encode(normalized(request.Combination, n, event)))
		}
	}
	check(scanner.Err())
}

func read(captured captured) ([]cloudevents.Event, error) {
	request := httptest.NewRequest(http.MethodPost, "/events", bytes.NewReader(captured.Body))
	for _, header := range captured.Headers {
		request.Header.Add(header[0], header[1])
	}
	if captured.Mode == "batch" {
		return cloudevents.NewEventsFromHTTPRequest(request)
	}
	event, err := cloudevents.NewEventFromHTTPRequest(request)
	if err != nil {
		return nil, err
	}
	return []cloudevents.Event{*event}, event.Validate()
}

func normalized(combination string, n int, event cloudevents.Event) line {
	extensions := map[string]string{}
	for name, value := range event.Extensions() {
		text, err := types.Format(value)
		check(err)
		extensions[name] = text
	}
	var moment *string
	if !event.Time().IsZero() {
		text := event.Time().Format(time.RFC3339Nano)
		moment = &text
	}
	return line{combination, n, "", event.ID(), event.Source(), event.Type(), event.Subject(), moment,
		event.DataContentType(), extensions, string(event.Data())}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
