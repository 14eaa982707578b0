//! What it takes to send a request again: a copy of its head, for the few that may be (contract §3.10).

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use super::body::RequestBody;

/// Most heads fit.
const USUAL_BYTES: usize = 768;

/// A copy of the head of a request without a body. One is made for nearly every GET and hardly ever
/// used, so it is one run of bytes: cheaper than a map, whose every value would be counted in and out.
pub(super) struct HeadCopy {
    method: Method,
    uri: Uri,
    /// For each field the length of its name and of its value, then both.
    fields: Vec<u8>,
}

impl HeadCopy {
    /// Copies the head of a request that may be sent again once its connection turned out to be closed:
    /// one without a body whose method changes nothing. `None` for others.
    pub(super) fn of(request: &Request<RequestBody>) -> Option<Self> {
        let repeatable = matches!(request.body(), RequestBody::Empty)
            && matches!(
                *request.method(),
                Method::GET | Method::HEAD | Method::OPTIONS
            );
        if !repeatable {
            return None;
        }
        let mut fields = Vec::with_capacity(USUAL_BYTES);
        for (name, value) in request.headers() {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            fields.extend_from_slice(&u32::try_from(name.len()).ok()?.to_ne_bytes());
            fields.extend_from_slice(&u32::try_from(value.len()).ok()?.to_ne_bytes());
            fields.extend_from_slice(name);
            fields.extend_from_slice(value);
        }
        Some(Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            fields,
        })
    }

    /// The request again. `None` cannot happen: what was read from a head can be written into one.
    pub(super) fn request(self) -> Option<Request<RequestBody>> {
        let mut headers = HeaderMap::new();
        let mut rest = &self.fields[..];
        while !rest.is_empty() {
            let (name_length, after) = rest.split_first_chunk()?;
            let (value_length, after) = after.split_first_chunk()?;
            let length = |bytes| usize::try_from(u32::from_ne_bytes(bytes)).ok();
            let (name, after) = after.split_at_checked(length(*name_length)?)?;
            let (value, after) = after.split_at_checked(length(*value_length)?)?;
            headers.append(
                HeaderName::from_bytes(name).ok()?,
                HeaderValue::from_bytes(value).ok()?,
            );
            rest = after;
        }
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = headers;
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same_head_with_repeated_and_empty_fields_in_order() {
        let request = Request::builder()
            .method("OPTIONS")
            .uri("/a?b=%20c")
            .header("x-one", "1")
            .header("accept", HeaderValue::from_bytes(b"\xff obs-text").unwrap())
            .header("x-one", "")
            .body(RequestBody::Empty)
            .unwrap();
        let again = HeadCopy::of(&request).unwrap().request().unwrap();
        assert_eq!(again.method(), request.method());
        assert_eq!(again.uri(), request.uri());
        assert_eq!(again.version(), request.version());
        assert_eq!(again.headers(), request.headers());
    }

    #[test]
    fn a_request_that_may_change_something_is_not_copied() {
        for method in ["POST", "PUT", "PATCH", "DELETE", "PURGE"] {
            let request = Request::builder()
                .method(method)
                .body(RequestBody::Empty)
                .unwrap();
            assert!(HeadCopy::of(&request).is_none(), "{method}");
        }
    }
}
