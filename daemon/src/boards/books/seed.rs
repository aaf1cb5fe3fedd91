//! The seven titles with which every bookstore of this kind begins.

/// Id, title, topic; each costs 100 times its id, and there are a thousand copies.
pub(super) const TITLES: [(i64, &str, &str); 7] = [
    (1, "How to get a good grade in 677 in 20 minutes a day", "DistributedSystems"),
    (2, "RPCs for Dummies", "DistributedSystems"),
    (3, "Xen and the Art of Surviving Graduate School", "GraduateSchool"),
    (4, "Cooking for the Impatient Graduate Student", "GraduateSchool"),
    (5, "How to finish Project 3 on time", "GraduateSchool"),
    (6, "Why Theory Classes are so hard", "GraduateSchool"),
    (7, "Spring in the Pioneer Valley", "DistributedSystems"),
];

/// Copies of each.
pub(super) const STOCK: i64 = 1_000;

/// What a title costs, in minor units.
pub(super) fn cost_minor(id: i64) -> i64 {
    100 * id
}
