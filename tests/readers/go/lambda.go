package main

import (
	"encoding/json"

	"github.com/aws/aws-lambda-go/events"
)

// What a function gets that was written for the Lambda trigger, each value in DynamoDB's JSON again.
func lambda(combination string, data []byte) map[string]any {
	var record events.DynamoDBEventRecord
	if err := json.Unmarshal(data, &record); err != nil {
		return map[string]any{"combination": combination, "error": err.Error(), "data": string(data)}
	}
	change := record.Change
	read := map[string]any{
		"combination": combination,
		"event_id":    record.EventID,
		"operation":   record.EventName,
		"region":      record.AWSRegion,
		"sequence":    change.SequenceNumber,
		"size":        change.SizeBytes,
		"view":        change.StreamViewType,
		"keys":        images(change.Keys),
		"new":         images(change.NewImage),
		"old":         images(change.OldImage),
		"seconds":     nil,
		"identity":    nil,
	}
	if !change.ApproximateCreationDateTime.IsZero() {
		read["seconds"] = change.ApproximateCreationDateTime.Unix()
	}
	if identity := record.UserIdentity; identity != nil {
		read["identity"] = []string{identity.PrincipalID, identity.Type}
	}
	return read
}

func images(attributes map[string]events.DynamoDBAttributeValue) any {
	if attributes == nil {
		return nil
	}
	typed := map[string]any{}
	for name, value := range attributes {
		typed[name] = value // its MarshalJSON writes DynamoDB's JSON
	}
	return typed
}
