"""What assets read and write through: the lake and the warehouse dbt builds."""
