//! Parameters of a query and of a form body: each at most once, empty ones as if they were not
//! there, unknown ones ignored (RFC 6749 §3.2).

use percent_encoding::percent_decode_str;

use crate::base::secret::Secret;

/// Why parameters could not be read; the text is for the caller and holds no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormError {
    /// A broken percent-escape, or no UTF-8.
    #[error("the parameters are not well-formed application/x-www-form-urlencoded in UTF-8")]
    Malformed,
    /// A known parameter stands more than once, in the query and the body taken together.
    #[error("the parameter {0} is there more than once")]
    Repeated(&'static str),
    /// A needed parameter is not there, or empty.
    #[error("the parameter {0} is missing")]
    Missing(&'static str),
}

/// The known parameters of one request. Values may be secrets, so they print nothing.
pub(super) struct Parameters(Vec<(&'static str, Secret)>);

impl Parameters {
    /// Reads `known` parameters from query and body.
    pub(super) fn read(
        known: &[&'static str],
        query: Option<&str>,
        body: Option<&[u8]>,
    ) -> Result<Self, FormError> {
        let body = body.map(std::str::from_utf8).transpose();
        let body = body.map_err(|_| FormError::Malformed)?;
        let mut found: Vec<(&'static str, Secret)> = Vec::new();
        let pairs = [query, body].into_iter().flatten();
        for pair in pairs.flat_map(|text| text.split('&')) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            let Some(name) = known.iter().find(|known| **known == name.expose()) else {
                continue;
            };
            if found.iter().any(|(other, _)| other == name) {
                return Err(FormError::Repeated(name));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// A parameter that may be missing.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(own, _)| *own == name);
        found
            .map(|(_, value)| value.expose())
            .filter(|value| !value.is_empty())
    }

    /// A parameter that must be there.
    pub(super) fn need(&self, name: &'static str) -> Result<&str, FormError> {
        self.get(name).ok_or(FormError::Missing(name))
    }
}

/// Decodes one name or value; a `%` that begins no escape is an error, not a percent sign.
fn decode(text: &str) -> Result<Secret, FormError> {
    let mut escapes = text.split('%');
    escapes.next();
    let whole = |escape: &str| {
        let digits = escape.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !escapes.all(whole) {
        return Err(FormError::Malformed);
    }
    let spaced = zeroize::Zeroizing::new(text.replace('+', " "));
    let decoded = percent_decode_str(&spaced).decode_utf8();
    let decoded = decoded.map_err(|_| FormError::Malformed)?;
    Ok(Secret::new(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, body: Option<&str>) -> Result<Parameters, FormError> {
        Parameters::read(&["a", "b"], Some(query), body.map(str::as_bytes))
    }

    #[test]
    fn query_and_body_are_one_list() {
        let both = read("a=1%2B+2&x=3&x=4", Some("b=%E4%BD%A0")).unwrap();
        assert_eq!((both.get("a"), both.get("b")), (Some("1+ 2"), Some("你")));
        let twice = read("a=1", Some("a=1")).err();
        assert_eq!(twice, Some(FormError::Repeated("a")));
        assert_eq!(read("a=&%61=1", None).err(), Some(FormError::Repeated("a")));
    }

    #[test]
    fn an_empty_parameter_is_a_missing_one() {
        for query in ["", "a", "a=", "&&", "A=1"] {
            let parameters = read(query, None).unwrap();
            assert_eq!(
                parameters.need("a"),
                Err(FormError::Missing("a")),
                "{query}"
            );
        }
    }

    #[test]
    fn broken_encoding_is_refused() {
        for query in ["a=%", "a=%4", "a=%zz", "%=1", "a=%ff", "a=1&x=%f"] {
            assert_eq!(
                read(query, None).err(),
                Some(FormError::Malformed),
                "{query}"
            );
        }
    }
}
