package serai

import (
	"strings"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reason is Serai's own word for an error, such as "JOB_UNKNOWN" or "INVALID_REQUEST"; empty for an error that Serai did not send.
func Reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "serai" {
			return info.Reason
		}
	}
	return ""
}

// Explain says in one line what went wrong: the code of the error, then the words for a person.
func Explain(err error) string {
	told, isStatus := status.FromError(err)
	if !isStatus {
		return err.Error()
	}
	return codeName(told.Code()) + ": " + strings.Join(strings.Fields(told.Message()), " ")
}

// interrupted: the way to the server broke, or the server is being started anew; the call may be made again.
func interrupted(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable:
		return true
	case codes.Canceled, codes.Internal, codes.Unknown: // so gRPC tells of a reset stream; Serai's own errors carry their reason
		return Reason(err) == ""
	}
	return false
}

// codeName as all languages but Go spell it: NOT_FOUND.
func codeName(code codes.Code) string {
	if code == codes.OK {
		return "OK"
	}
	var name strings.Builder
	for i, letter := range code.String() {
		if i > 0 && unicode.IsUpper(letter) {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToUpper(letter))
	}
	return name.String()
}
