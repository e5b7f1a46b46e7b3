//! The parts of a certificate that say whose it is, found without a look at the others: for who
//! wants to know its key or its names, and believes nothing else that it says.

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Class, FromDer, Tag};

/// Names and key of a certificate, as they stand in it (RFC 5280 §4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outline<'a> {
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    /// Its `SubjectPublicKeyInfo`.
    pub(crate) public_key: &'a [u8],
}

impl<'a> Outline<'a> {
    /// That of a certificate; none if it is none.
    pub(crate) fn of(der: &'a CertificateDer<'_>) -> Option<Self> {
        let mut rest = der.as_ref();
        let (certificate, _) = sequence(&mut rest)?;
        let mut inside = certificate.data;
        let (fields, _) = sequence(&mut inside)?;
        if !rest.is_empty() {
            return None;
        }
        let mut rest = fields.data;
        let (mut first, _) = take(&mut rest)?;
        if first.class() == Class::ContextSpecific && first.tag() == Tag(0) {
            // behind the version
            (first, _) = take(&mut rest)?;
        }
        if first.class() != Class::Universal || first.tag() != Tag::Integer {
            return None;
        }
        // behind the serial number: algorithm, issuer, validity, subject, key
        sequence(&mut rest)?;
        let (_, issuer) = sequence(&mut rest)?;
        sequence(&mut rest)?;
        let (_, subject) = sequence(&mut rest)?;
        let (_, public_key) = sequence(&mut rest)?;
        Some(Self { issuer, subject, public_key })
    }
}

/// The next object, and all the bytes of it.
fn take<'a>(rest: &mut &'a [u8]) -> Option<(Any<'a>, &'a [u8])> {
    let (behind, object) = Any::from_der(rest).ok()?;
    let whole = rest.get(..rest.len().checked_sub(behind.len())?)?;
    *rest = behind;
    Some((object, whole))
}

fn sequence<'a>(rest: &mut &'a [u8]) -> Option<(Any<'a>, &'a [u8])> {
    take(rest)
        .filter(|(object, _)| object.class() == Class::Universal && object.tag() == Tag::Sequence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::pkix;

    fn certificate() -> CertificateDer<'static> {
        let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        let issuer = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.distinguished_name.push(rcgen::DnType::CommonName, "the issuer");
        let ca = rcgen::Issuer::new(ca, issuer);
        params.signed_by(&rcgen::KeyPair::generate().unwrap(), &ca).unwrap().into()
    }

    #[test]
    fn it_is_what_a_parser_of_all_says() {
        let der = certificate();
        let outline = Outline::of(&der).unwrap();
        let whole = pkix::parse(&der).unwrap();
        assert_eq!(outline.issuer, whole.issuer().as_raw());
        assert_eq!(outline.subject, whole.subject().as_raw());
        assert_ne!(outline.issuer, outline.subject);
        assert_eq!(outline.public_key, whole.public_key().raw);
    }

    #[test]
    fn what_is_no_certificate_has_none() {
        let der = certificate();
        for len in 0..der.len() {
            assert_eq!(Outline::of(&der[..len].into()), None, "{len}");
        }
        let longer: Vec<u8> = der.iter().copied().chain([0]).collect();
        assert_eq!(Outline::of(&longer.into()), None);
    }
}
