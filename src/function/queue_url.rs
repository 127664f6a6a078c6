//! The URL of an SQS queue.

use lambda_http::http::Uri;

/// The URL of an SQS queue, with its endpoint and its region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueUrl {
    url: String,
    endpoint: String,
    region: String,
}

/// An invalid queue URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueUrlError {
    /// The text is not a URL.
    #[error("not a URL")]
    NotAUrl,
    /// The scheme is neither `https` nor `http`.
    #[error("must begin with https:// or http://")]
    Scheme,
    /// The path is empty.
    #[error("no queue name in the path")]
    NoName,
    /// The URL has a trailing slash or a query, which would hide the suffix `.fifo`.
    #[error("must end with the queue's name")]
    Suffix,
    /// The host names no region, and no default is set.
    #[error("no region in the host, and AWS_REGION is not set")]
    NoRegion,
}

impl QueueUrl {
    /// Parses a URL. `default_region` is used if the host is not an AWS host that names a region.
    ///
    /// # Errors
    ///
    /// [`QueueUrlError`]
    pub fn parse(url: &str, default_region: Option<&str>) -> Result<Self, QueueUrlError> {
        let uri: Uri = url.parse().map_err(|_| QueueUrlError::NotAUrl)?;
        let (Some(scheme @ ("https" | "http")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(QueueUrlError::Scheme);
        };
        if uri.path().trim_matches('/').is_empty() {
            return Err(QueueUrlError::NoName);
        }
        if uri.path().ends_with('/') || uri.query().is_some() {
            return Err(QueueUrlError::Suffix);
        }
        let host = authority.host().to_ascii_lowercase();
        let region = aws_region(&host).or(default_region).ok_or(QueueUrlError::NoRegion)?;
        Ok(Self { url: url.to_owned(), endpoint: format!("{scheme}://{authority}"), region: region.to_owned() })
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The URL without the path: the endpoint at which the queue is reached.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The region in the URL's host, otherwise the default region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Returns `true` if the queue is a FIFO queue: its name ends in `.fifo`.
    pub fn is_fifo(&self) -> bool {
        self.url.ends_with(".fifo")
    }
}

/// The domains of AWS, which contain the endpoints of all partitions.
const AWS_DOMAINS: [&str; 10] = [
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".amazonwebservices.com.cn",
    ".amazonwebservices.eu",
    ".api.aws",
    ".adc-e.uk",
    ".ic.gov",
    ".scloud",
    ".sgov.gov",
];

/// Returns the region that an AWS host names: the last label with the form of a region.
fn aws_region(host: &str) -> Option<&str> {
    let labels = AWS_DOMAINS.iter().find_map(|domain| host.strip_suffix(domain))?;
    labels.rsplit('.').find(|label| is_region(label))
}

/// Returns `true` if a label has the form of a region: `eu-north-1`, `us-gov-west-1`.
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let [words @ .., number] = parts.as_slice() else {
        return false;
    };
    words.len() >= 2
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_is_taken_from_aws_hosts_only() {
        for (url, region) in [
            ("https://sqs.eu-north-1.amazonaws.com/123456789012/events.fifo", "eu-north-1"),
            ("https://SQS.EU-WEST-2.AMAZONAWS.COM/1/q", "eu-west-2"),
            ("https://eu-west-1.queue.amazonaws.com/1/q", "eu-west-1"),
            ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"),
            ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
            ("https://sqs.cn-north-1.api.amazonwebservices.com.cn/1/q", "cn-north-1"),
            ("https://sqs.eu-west-3.api.aws/1/q", "eu-west-3"),
            ("https://sqs.eusc-de-east-1.amazonaws.eu/1/q", "eusc-de-east-1"),
            ("https://sqs.eusc-de-east-1.api.amazonwebservices.eu/1/q", "eusc-de-east-1"),
            ("https://sqs.us-iso-east-1.c2s.ic.gov/1/q", "us-iso-east-1"),
            ("https://sqs-fips.us-east-1.api.aws/1/q", "us-east-1"),
            ("https://sqs.us-isob-east-1.sc2s.sgov.gov/1/q", "us-isob-east-1"),
            ("https://sqs.us-isof-south-1.api.aws.hci.ic.gov/1/q", "us-isof-south-1"),
            ("https://sqs.eu-isoe-west-1.cloud.adc-e.uk/1/q", "eu-isoe-west-1"),
            ("https://sqs.us-isob-east-1.api.aws.scloud/1/q", "us-isob-east-1"),
            ("https://vpce-0a1-b2c.sqs.us-east-2.vpce.amazonaws.com/1/q", "us-east-2"),
            ("https://vpce-abcdefab-1.sqs.us-east-2.vpce.amazonaws.com/1/q", "us-east-2"),
            ("https://vpce-0a1-b2c-us-east-2a.sqs.us-east-2.vpce.amazonaws.com/1/q", "us-east-2"),
            ("http://127.0.0.1:5000/1/q", "xx-home-9"),
            ("http://localhost:5000/1/q", "xx-home-9"),
            ("https://queue.amazonaws.com/1/q", "xx-home-9"),
            ("https://sqs.eu-north-1.example.com/1/q", "xx-home-9"),
            ("https://my-sqs-1/1/q", "xx-home-9"),
        ] {
            let url = QueueUrl::parse(url, Some("xx-home-9")).unwrap();
            assert_eq!(url.region(), region, "{url:?}");
            assert_eq!(format!("{}/", url.endpoint()), url.as_str().split_inclusive('/').take(3).collect::<String>());
        }
    }

    #[test]
    fn region_has_words_and_a_number() {
        for label in ["eu-north-1", "us-gov-west-1", "ap-southeast-12"] {
            assert!(is_region(label), "{label}");
        }
        for label in
            ["sqs", "sqs-fips", "eu-1", "eu--1", "-north-1", "eu-north-", "eu-north-1a", "eu-n2-1", "EU-north-1"]
        {
            assert!(!is_region(label), "{label}");
        }
    }

    #[test]
    fn url_without_a_queue_is_an_error() {
        for (url, problem) in [
            ("not a url", "not a URL"),
            ("/1/q", "must begin with https:// or http://"),
            ("ftp://sqs.eu-north-1.amazonaws.com/1/q", "must begin with https:// or http://"),
            ("https://sqs.eu-north-1.amazonaws.com/1/q.fifo/", "must end with the queue's name"),
            ("https://sqs.eu-north-1.amazonaws.com/1/q.fifo?a", "must end with the queue's name"),
            ("https://sqs.eu-north-1.amazonaws.com/", "no queue name in the path"),
            ("https://localhost/1/q", "no region in the host, and AWS_REGION is not set"),
        ] {
            assert_eq!(QueueUrl::parse(url, None).unwrap_err().to_string(), problem, "{url}");
        }
    }
}
