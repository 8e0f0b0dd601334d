//! The header `Sec-WebSocket-Extensions` (RFC 6455, section 9.1).

use std::borrow::Cow;
use std::fmt;

/// One extension of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Its name, as it is written: names are case-sensitive, as RFC 6455 does not say otherwise.
    pub name: &'a str,
    /// Its parameters in their order, each with its value if it has one.
    pub parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// The header does not follow its grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedExtensions {
    /// The header.
    pub header: String,
    /// Where in it, in bytes.
    pub at: usize,
}

impl fmt::Display for MalformedExtensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Malformed Sec-WebSocket-Extensions at byte {}: {:?}", self.at, self.header)
    }
}

impl std::error::Error for MalformedExtensions {}

/// The extensions that `header` lists; several such headers are one with commas between. Empty elements are left out,
/// as RFC 9110 (section 5.6.1.2) requires of recipients of a list.
///
/// # Errors
/// [`MalformedExtensions`].
pub fn parse_extensions(header: &str) -> Result<Vec<Extension<'_>>, MalformedExtensions> {
    let mut cursor = Cursor { header, at: 0 };
    let mut extensions = Vec::new();
    loop {
        cursor.skip_space();
        if cursor.take(b',') {
            continue;
        }
        if cursor.is_at_end() {
            return Ok(extensions);
        }
        let name = cursor.token()?;
        let mut parameters = Vec::new();
        cursor.skip_space();
        while cursor.take(b';') {
            cursor.skip_space();
            let name = cursor.token()?;
            cursor.skip_space();
            let value = if cursor.take(b'=') {
                cursor.skip_space();
                Some(cursor.value()?)
            } else {
                None
            };
            parameters.push((name, value));
            cursor.skip_space();
        }
        extensions.push(Extension { name, parameters });
        if !cursor.take(b',') && !cursor.is_at_end() {
            return Err(cursor.malformed());
        }
    }
}

/// RFC 9110, section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

struct Cursor<'a> {
    header: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.header.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn is_at_end(&self) -> bool {
        self.rest().is_empty()
    }

    fn malformed(&self) -> MalformedExtensions {
        MalformedExtensions { header: self.header.to_owned(), at: self.at }
    }

    fn skip_space(&mut self) {
        self.at += self.rest().iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.rest().first() == Some(&byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn token(&mut self) -> Result<&'a str, MalformedExtensions> {
        let end = self.at + self.rest().iter().take_while(|byte| is_token(**byte)).count();
        match self.header.get(self.at..end) {
            Some(token) if !token.is_empty() => {
                self.at = end;
                Ok(token)
            }
            _ => Err(self.malformed()),
        }
    }

    /// A token, or one in quotes: the quoted text has to be a token as well (RFC 6455, section 9.1).
    fn value(&mut self) -> Result<Cow<'a, str>, MalformedExtensions> {
        if !self.take(b'"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = String::new();
        while !self.take(b'"') {
            // A backslash stands before any character.
            self.take(b'\\');
            match self.rest().first() {
                Some(byte) if is_token(*byte) => value.push(char::from(*byte)),
                _ => return Err(self.malformed()),
            }
            self.at += 1;
        }
        if value.is_empty() { Err(self.malformed()) } else { Ok(Cow::Owned(value)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (String, Vec<(String, Option<String>)>);

    fn parsed(header: &str) -> Vec<Owned> {
        let extensions = parse_extensions(header).unwrap();
        let owned =
            |(name, value): (&str, Option<Cow<'_, str>>)| (name.to_owned(), value.map(Cow::into_owned));
        extensions
            .into_iter()
            .map(|extension| {
                (extension.name.to_owned(), extension.parameters.into_iter().map(owned).collect())
            })
            .collect()
    }

    #[test]
    fn lists_parameters_and_quotes() {
        let value = |value: &str| Some(value.to_owned());
        assert_eq!(parsed(""), []);
        assert_eq!(parsed(" , ,"), []);
        assert_eq!(parsed("foo"), [("foo".to_owned(), vec![])]);
        assert_eq!(
            parsed("foo; a ; b=1,bar ;c = \"2\\3\" ,"),
            [
                ("foo".to_owned(), vec![("a".to_owned(), None), ("b".to_owned(), value("1"))]),
                ("bar".to_owned(), vec![("c".to_owned(), value("23"))]),
            ]
        );
    }

    #[test]
    fn text_that_does_not_follow_the_grammar() {
        for (header, at) in [
            ("foo bar", 4),
            ("foo;", 4),
            (";a", 0),
            ("foo;=1", 4),
            ("foo;a=", 6),
            ("foo;a=\"", 7),
            ("foo;a=\"b", 8),
            ("foo;a=\"\"", 8),
            ("foo;a=\"b c\"", 8),
            ("foo;a=b c", 8),
            ("föö", 1),
            ("foo;a=\"\\", 8),
        ] {
            assert_eq!(parse_extensions(header).map_err(|error| error.at), Err(at), "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(header in "[a-z0-9=;, \"\\\\é]{0,40}") {
            if let Err(error) = parse_extensions(&header) {
                prop_assert!(error.at <= header.len());
            }
        }
    }
}
