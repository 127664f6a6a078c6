//! The parameters below a path, as SSM Parameter Store returns them.

use std::fmt;

use aws_sdk_ssm::Client;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ssm::types::{Parameter, ParameterType};
use secrecy::SecretString;

use crate::entry::Reason;

/// The largest page of `GetParametersByPath`.
const PAGE: i32 = 10;

/// Parameter Store, and a path in it.
#[derive(Clone)]
pub(crate) struct Parameters {
    client: Client,
    path: String,
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A value, or the reason why there is none.
pub(crate) type Content = Result<SecretString, Reason>;

/// The path or a parameter cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadError(pub(crate) String);

impl Parameters {
    pub(crate) fn new(client: Client, path: String) -> Self {
        Self { client, path }
    }

    /// The region, for messages.
    pub(crate) fn region(&self) -> &str {
        self.client.config().region().map_or("an unknown region", AsRef::as_ref)
    }

    /// Passes the name and the content of each parameter directly below the path to `found`.
    ///
    /// A value that cannot be decrypted makes AWS refuse its whole page without naming it. Then the page is read
    /// without decryption, and each of its values alone. If AWS accepts a token only in the mode of its own page, all
    /// pages are read again without decryption, so `restart` discards what was found.
    pub(crate) async fn read(
        &self,
        mut found: impl FnMut(&str, Content),
        mut restart: impl FnMut(),
    ) -> Result<(), ReadError> {
        let (mut token, mut decrypt) = (None, true);
        loop {
            let (mut page, mut is_decrypted) = (self.page(token.as_deref(), decrypt).await, decrypt);
            if decrypt && page.as_ref().is_err_and(is_decryption) {
                (page, is_decrypted) = (self.page(token.as_deref(), false).await, false);
            }
            let is_token_refused = page.as_ref().is_err_and(|error| error.code() == Some("InvalidNextToken"));
            if decrypt && token.is_some() && is_token_refused {
                restart();
                (token, decrypt) = (None, false);
                continue;
            }
            let (parameters, next) = page.map_err(|error| ReadError(aws_setup::reason(&error)))?;
            for parameter in parameters {
                let Some(name) = parameter.name.as_deref().and_then(|name| self.name_below(name)) else { continue };
                if is_decrypted || parameter.r#type != Some(ParameterType::SecureString) {
                    found(name, content(&parameter));
                } else if let Some(content) = self.get(name).await? {
                    found(name, content);
                }
            }
            match next {
                None => return Ok(()),
                Some(next) if Some(&next) == token.as_ref() => {
                    return Err(ReadError("the token of a page is repeated".into()));
                }
                next => token = next,
            }
        }
    }

    /// Reads a parameter directly below the path; `None` if there is none with exactly this name.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Content>, ReadError> {
        let full_name = format!("{}/{name}", self.path);
        match self.client.get_parameter().name(full_name).with_decryption(true).send().await {
            Ok(response) => Ok(response.parameter.as_ref().map(content)),
            Err(error) if matches!(error.code(), Some("ParameterNotFound" | "ParameterVersionNotFound")) => Ok(None),
            Err(error) if is_decryption(&error) => Ok(Some(Err(Reason::NotDecrypted))),
            Err(error) => Err(ReadError(aws_setup::reason(&error))),
        }
    }

    async fn page(&self, token: Option<&str>, decrypt: bool) -> Result<Page, PageError> {
        let request = self.client.get_parameters_by_path().path(&self.path).max_results(PAGE).with_decryption(decrypt);
        let page = request.set_next_token(token.map(str::to_owned)).send().await?;
        Ok((page.parameters.unwrap_or_default(), page.next_token.filter(|token| !token.is_empty())))
    }

    /// Returns the part of a parameter's name after the path.
    fn name_below<'a>(&self, name: &'a str) -> Option<&'a str> {
        let name = name.strip_prefix(&self.path)?.strip_prefix('/')?;
        (!name.is_empty() && !name.contains('/')).then_some(name)
    }
}

/// The parameters of a page, and the token of the next page.
type Page = (Vec<Parameter>, Option<String>);
type PageError = SdkError<aws_sdk_ssm::operation::get_parameters_by_path::GetParametersByPathError>;

fn content(parameter: &Parameter) -> Content {
    match parameter.r#type {
        Some(ParameterType::SecureString) => Ok(parameter.value.as_deref().unwrap_or_default().into()),
        _ => Err(Reason::NotSecure),
    }
}

/// Returns `true` if AWS may have refused a call because of a value that cannot be decrypted. AWS has several codes for
/// that. A missing permission for the call itself has one of the codes, too, and names the action.
fn is_decryption<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let code = error.code().unwrap_or_default();
    let is_access_denied = code.contains("AccessDenied");
    let is_of_key =
        code == "InvalidKeyId" || code.to_ascii_uppercase().starts_with("KMS") || code.contains("Ciphertext");
    let is_of_call = error.message().is_some_and(|message| message.contains("ssm:Get"));
    is_of_key || (is_access_denied && !is_of_call)
}
